"""The check of a file of predictions: what can be used is staged, the rest reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from django.conf import settings as conf

from mining.predictions import (
    Block,
    Fault,
    PredictionFormat,
    Report,
    find_faults,
    read_predictions,
    score_block,
)
from mining.predictions.report import LISTED
from mining.types import ScanSettings
from reviewapp.models import Import
from reviewapp.staging import (
    find_samples,
    index_rows,
    leave_out_duplicates,
    samples_without_row,
    stage,
)

Ints = npt.NDArray[np.int64]


class Beat(Protocol):
    """Tells that the check goes on."""

    def __call__(self, *, now: bool = False, **changes: float) -> None:
        """Tell it now, or now and then; raises when the check should end."""


class Check:
    """Reads the whole file once: stages what can be used, reports what cannot."""

    def __init__(self, job: Import, file: Path, beat: Beat) -> None:
        self._job, self._file, self._beat = job, file, beat
        self._report = Report()
        labels = job.dataset.labels.current()
        self._classes = list(labels.values_list("name", flat=True))
        self._labels = {
            pk: n for n, pk in enumerate(labels.values_list("pk", flat=True))
        }

    def run(self) -> Report:
        """Stage the rows and return what is wrong with them.

        Raises:
            BadPredictions: The file cannot be used at all.
            TakenOver: Another worker has the import.
        """
        blocks = read_predictions(
            self._file,
            cast("PredictionFormat", self._job.format),
            classes=self._classes,
            given=self._job.classes,
            name=self._job.file_name,
            max_bytes=conf.IMPORT_MAX_BYTES,
        )
        for block in blocks:
            self._report.order = block.order
            self._report.top_k = block.tops is not None
            self._report.rows += len(block)
            self._stage(block)
            self._beat(progress=block.share, rows=self._report.rows)
        self._compare()
        return self._report

    def _stage(self, block: Block) -> None:
        faults = find_faults(block)
        askable = [
            row
            for row in range(len(block))
            if row not in faults or faults[row].kind != "unreadable row"
        ]
        ids, labels = find_samples(
            self._job.dataset, self._job.split, [block.keys[row] for row in askable]
        )
        for row in np.array(askable, np.int64)[ids == 0].tolist():
            faults.setdefault(row, Fault("unknown key", self._unknown()))
        for row, fault in sorted(faults.items()):
            key = block.keys[row]
            self._report.add(fault, row=block.first_row + row, key=key)
        known = ids > 0
        rows = np.array(askable, np.int64)[known]
        self._stage_rows(block, rows, ids[known], labels[known], faults)

    def _unknown(self) -> str:
        split = self._job.split
        return f"no sample of the {f'split {split}' if split else 'data set'} has it"

    def _stage_rows(
        self,
        block: Block,
        rows: Ints,
        ids: Ints,
        labels: Ints,
        faults: dict[int, Fault],
    ) -> None:
        """Stage the rows of samples that exist; of bad ones only that they are there."""
        if not len(rows):
            return
        good = np.array([row not in faults for row in rows.tolist()], bool)
        true = np.array([self._labels.get(label, -1) for label in labels.tolist()])
        k = min(ScanSettings().top_k, len(self._classes))
        columns = _empty_columns(len(rows), k)
        columns["sample_id"], columns["file_row"] = ids, rows + block.first_row
        columns["true_label"] = true
        scores = score_block(
            _part(block, rows[good]), np.maximum(true[good], 0), top_k=k
        )
        columns["predicted"][good] = scores.predicted
        for name in ("confidence", "p_true", "margin", "loss"):
            # Rounded as the artefact has them, so that it and the findings say the same.
            columns[name][good] = getattr(scores, name).astype(np.float32)
        width = scores.top_classes.shape[1]
        columns["top_classes"][good, :width] = scores.top_classes
        columns["top_probs"][good, :width] = scores.top_probs.astype(np.float32)
        self._report.bounded += int((scores.bounded & (true[good] >= 0)).sum())
        stage(columns)

    def _compare(self) -> None:
        """Find the samples with several rows, and those without one."""
        index_rows()
        self._beat(now=True)
        count, rows = leave_out_duplicates(LISTED)
        self._report.add_many("duplicate key", count)
        for row in rows:
            fault = Fault("duplicate key", f"row {row.other:,} has it too")
            self._report.note(fault, row=row.row, key=row.key)
        self._beat(now=True)
        job = self._job
        count, samples = samples_without_row(job.dataset, job.split, LISTED)
        self._report.add_many("no prediction", count)
        for sample in samples:
            fault = Fault("no prediction", "no row names it")
            self._report.note(fault, row=None, key=sample.key)
        self._beat(now=True)


def _part(block: Block, rows: Ints) -> Block:
    if len(rows) == len(block):
        return block
    return replace(
        block,
        keys=[block.keys[row] for row in rows.tolist()],
        probs=block.probs[rows],
        tops=None if block.tops is None else block.tops[rows],
    )


def _empty_columns(rows: int, k: int) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of rows that cannot be used."""
    return {
        "sample_id": np.zeros(rows, np.int64),
        "file_row": np.zeros(rows, np.int64),
        "true_label": np.zeros(rows, np.int64),
        "predicted": np.full(rows, -1, np.int64),
        **{name: np.zeros(rows) for name in ("confidence", "p_true", "margin", "loss")},
        "top_classes": np.full((rows, k), -1, np.int64),
        "top_probs": np.full((rows, k), -1.0),
    }
