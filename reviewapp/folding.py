"""One out-of-fold run from its samples to a finished scan, as a worker runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from django.core.files import File

from mining.exceptions import MiningError
from mining.sources import url_for
from mining.training.folds import FoldSample, OutOfFold, out_of_fold
from mining.training.settings import TrainSample, TrainSettings
from reviewapp.actions.folds import begin_import, finish_folds
from reviewapp.actions.imports import request_import
from reviewapp.actions.runs import forget_states
from reviewapp.exceptions import Refused
from reviewapp.importing import run_import
from reviewapp.models import FoldRun, Import, Sample, Scan, Split
from reviewapp.persistence import outlast
from reviewapp.running import Steps, TakenAway, load_state
from reviewapp.storage import scratch_folder, store_bytes

logger = logging.getLogger(__name__)

Watch = Callable[[int, int, int, int], None]
SUFFIX = " out-of-fold"
NAME_LENGTH = 100
FILE = "out-of-fold.parquet"


@dataclass(frozen=True, slots=True)
class _Material:
    """What a run works on.

    Attributes:
        samples: The train split, by key.
        val: The val split, by key.
        registrations: How often the data set had been registered when it was read.
    """

    samples: tuple[FoldSample, ...]
    val: tuple[TrainSample, ...]
    registrations: int


def scan_out_of_fold(run: FoldRun, *, watch: Watch | None = None) -> bool:
    """Train the fold models of a claimed run and record what they say as a scan.

    Args:
        run: As `claim_run` gave it.
        watch: Told of each step: fold and epoch from 1, samples done and samples in it.

    Returns:
        False when the run was taken away; then no scan was made.

    Raises:
        MiningError: The version or the samples cannot be used. The folds that are done
            are kept.
        Refused: The predictions could not be recorded.
        OSError: The storage failed.
        OperationalError: The database did not come back in time.
    """
    steps = _Steps(run, watch)
    try:
        with steps.heart.kept(), scratch_folder() as folder:
            material = outlast(lambda: _gather(run))
            found = out_of_fold(
                parent=run.parent.checkpoint,
                spec=run.parent.spec(),
                samples=material.samples,
                val=material.val,
                folds=run.folds,
                settings=TrainSettings.from_dict(run.settings),
                store=StoredFolds(run),
                on_step=steps.step,
            )
            scan = _record(run, material, found, folder / FILE, steps)
            outlast(lambda: finish_folds(run=run, scan=scan, notes=found.notes))
    except TakenAway:
        logger.info("%s was taken away; it stops.", run)
        return False
    forget_states(run)
    return True


def _gather(run: FoldRun) -> _Material:
    """Return the samples of a run, sorted as Python does it on every machine."""
    registrations = _registrations(run)  # first: one that ends meanwhile is noticed
    present = Sample.objects.present().filter(
        dataset=run.dataset_id, split__in=(Split.TRAIN, Split.VAL)
    )
    columns = present.values_list("key", "digest", "label__name", "split")
    rows = sorted(columns.iterator(chunk_size=10_000))
    root = run.dataset.root
    return _Material(
        samples=tuple(
            FoldSample(key, url_for(root, key), label, digest)
            for key, digest, label, split in rows
            if split == Split.TRAIN
        ),
        val=tuple(
            TrainSample(key, url_for(root, key), label, digest)
            for key, digest, label, split in rows
            if split == Split.VAL
        ),
        registrations=registrations,
    )


def _registrations(run: FoldRun) -> int:
    return run.dataset.registrations.done().count()


def _record(
    run: FoldRun, material: _Material, found: OutOfFold, path: Path, steps: _Steps
) -> Scan:
    """Import the predictions and return their scan."""
    steps.check()
    if outlast(lambda: _registrations(run)) != material.registrations:
        raise MiningError(
            f"{run.dataset} was registered again while its folds were judged. No scan "
            "was made. Resume the run: it judges what has changed again."
        )
    _write(path, [sample.key for sample in material.samples], found)
    with path.open("rb") as stream:
        job = request_import(
            dataset=run.dataset,
            file=File(stream, name=FILE),
            model=model_name(run),
            by=run.requested_by,
            split=Split.TRAIN,
            classes=run.parent.classes,
            allow_partial=True,  # an image that cannot be read has no prediction
            keep=False,
            folds=run.folds,
        )
    if not begin_import(run=run, job=job):
        raise TakenAway
    ended = run_import(
        import_id=job.pk, path=path, on_progress=lambda _: steps.heart.go_on()
    )
    if ended is None or ended.state != Import.State.DONE or ended.scan is None:
        why = ended.message if ended else f"{job} went to another process."
        raise Refused(f"The predictions could not be recorded: {why}")
    return ended.scan


def model_name(run: FoldRun) -> str:
    """Return the registered model whose scan it becomes: not the version's own.

    Its errors are not that version's, and would count as fixed or regressed there.
    """
    return f"{run.parent.registered_model.name[: NAME_LENGTH - len(SUFFIX)]}{SUFFIX}"


def _write(path: Path, keys: Sequence[str], found: OutOfFold) -> None:
    readable = np.flatnonzero(~np.isnan(found.pred_probs).any(axis=1))
    classes = found.pred_probs.shape[1]
    flat = pa.array(found.pred_probs[readable].ravel(), pa.float32())
    table = pa.table(
        {
            "key": pa.array([keys[n] for n in readable.tolist()], pa.string()),
            "pred_probs": pa.FixedSizeListArray.from_arrays(flat, classes),
        }
    )
    pq.write_table(table, path)


class _Steps(Steps):
    """The steps of a run, told to who watches."""

    def __init__(self, run: FoldRun, watch: Watch | None) -> None:
        super().__init__(run)
        self._watch = watch

    def step(self, fold: int, epoch: int, done: int, of_all: int) -> None:
        """Note how far it is."""
        self.note(fold=fold, epoch=epoch, done=done, all=of_all)
        if self._watch:
            self._watch(fold, epoch, done, of_all)


class StoredFolds:
    """What a run can go on from, in the storage.

    Any worker writes the same bytes for the same step, so that one that was given up and
    wakes up does no harm.
    """

    def __init__(self, run: FoldRun) -> None:
        """Take a run as claimed."""
        self._run = run

    def training(self, fold: int) -> _Stored:
        """Return where the state of a fold model's training goes."""
        return _Stored(f"{self._run.folder}/{fold}.state")

    def judged(self, fold: int) -> _Stored:
        """Return where a fold's probabilities go once they are there."""
        return _Stored(f"{self._run.folder}/{fold}.probabilities")


class _Stored:
    """Bytes in the storage under one name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def load(self) -> bytes | None:
        """Return what was saved last, None when there is nothing.

        Raises:
            OSError: The storage does not answer.
        """
        return load_state(self._name)

    def save(self, data: bytes) -> None:
        """Keep the bytes in place of the ones before.

        Raises:
            ArtefactError: The storage could not take them; the ones before are kept.
        """
        store_bytes(self._name, data)
