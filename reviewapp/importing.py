"""One import from its file to its scan, as a worker or a command runs it."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt
from django.conf import settings as conf
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection

from mining.exceptions import ArtefactError
from mining.predictions import Report
from mining.training.folds import fold_of
from mining.types import Outcome, SampleRef, ScanSettings
from reviewapp.actions.findings import record_shard
from reviewapp.actions.finishing import delete_part, finish_scan, store_part
from reviewapp.actions.imports import (
    beat_import,
    begin_import_scan,
    claim_import,
    end_import,
    refuse_import,
    retry_import,
    take_back_shard,
)
from reviewapp.actions.shards import claim_shard
from reviewapp.checking import Check
from reviewapp.exceptions import plain_message
from reviewapp.models import FoldRun, Import, Sample, Scan, Shard
from reviewapp.persistence import DATABASE_ERRORS
from reviewapp.staging import staged_rows, staging_table
from reviewapp.storage import fetch_file, scratch_folder, storage_errors

logger = logging.getLogger(__name__)

BEAT_SECONDS: Final = 1.0
BEATS_PER_LEASE: Final = 4
HASHED: Final = 1 << 22  # bytes
NO_PREDICTION: Final = "no prediction in the import"
NO_CLASS: Final = "its label is no class of the data set any more"

Progress = Callable[[Import], None]


class TakenOver(Exception):  # noqa: N818 (as the other refusals)
    """Another worker has the import: this one has nothing more to say."""


def run_import(
    *, import_id: int, path: Path | None = None, on_progress: Progress | None = None
) -> Import | None:
    """Check a file of predictions, and turn it into a finished scan if it is good.

    Whatever ends the process, another call goes on from what is recorded; nothing is
    counted twice.

    Args:
        import_id: Of a queued import; any other is left alone.
        path: The file, when it lies on this machine; None: it is in the storage.
        on_progress: Called now and then with the import.

    Returns:
        The import as it is now; None when there was nothing to do.

    Raises:
        OperationalError: The database is gone; the import's lease runs out.
    """
    job = claim_import(import_id=import_id)
    if job is None:
        return None
    pulse = _Pulse(job, on_progress)
    try:
        with pulse.kept(), _local_file(job, path) as file:
            _carry_out(job, file, pulse)
    except DATABASE_ERRORS:
        raise
    except TakenOver:
        logger.warning("%s goes on elsewhere", job)
    except Exception as error:
        logger.exception("%s stopped", job)
        message = plain_message(error)
        if isinstance(error, (ArtefactError, *storage_errors())):
            retry_import(job=job, message=message)
        else:
            end_import(job=job, state=Import.State.FAILED, message=message)
    return Import.objects.with_names().get(pk=job.pk)


@contextmanager
def _local_file(job: Import, path: Path | None) -> Iterator[Path]:
    if path is not None:
        yield path
    elif isinstance(default_storage, FileSystemStorage):
        yield Path(default_storage.path(job.file))
    else:  # a bucket: some formats are read from several places at once
        with scratch_folder() as folder:
            copy = folder / "predictions"
            fetch_file(job.file, copy)
            yield copy


def _carry_out(job: Import, file: Path, pulse: _Pulse) -> None:
    scan = job.scan
    if scan is None or scan.is_active:
        with staging_table():
            registrations = job.dataset.registrations.done().count()
            report = Check(job, file, pulse.beat).run()
            if scan is None:
                digest = _digest(file, pulse)
                if not _is_acceptable(job, report):
                    refuse_import(job=job, report=report, digest=digest)
                    return
                scan = begin_import_scan(
                    job=job, report=report, digest=digest, registrations=registrations
                )
            _record(job, scan, pulse)
        scan = finish_scan(scan=scan)
    if scan.is_active:  # a part was lost from the storage between the two
        raise ArtefactError(f"A part of {scan} was lost. It is made again.")
    if scan.is_done:
        end_import(job=job, state=Import.State.DONE)
    else:
        message = f"Its scan {scan.pk} is {scan.state}: {scan.message}"
        end_import(job=job, state=Import.State.FAILED, message=message)


def _is_acceptable(job: Import, report: Report) -> bool:
    if report.is_clean:
        return report.rows > 0
    return job.allow_partial and report.rows > report.bad_rows


def _digest(file: Path, pulse: _Pulse) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(HASHED):
            digest.update(piece)
            pulse.beat()
    return digest.hexdigest()


class _Pulse:
    """Tells the database that the import's worker lives, and hears when it should not."""

    def __init__(self, job: Import, on_progress: Progress | None) -> None:
        self._job, self._on_progress = job, on_progress
        self._last = time.monotonic()

    def beat(self, *, now: bool = False, **changes: float) -> None:
        """Tell how far the work is, at most once a second unless it must be `now`.

        Raises:
            TakenOver: Another worker has the import.
        """
        for name, value in changes.items():
            setattr(self._job, name, value)
        if self._on_progress:
            self._on_progress(self._job)
        if now or time.monotonic() - self._last >= BEAT_SECONDS:
            self._last = time.monotonic()
            if not beat_import(
                job=self._job, progress=self._job.progress, rows=self._job.rows
            ):
                raise TakenOver

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the lease in the block, even while the database is at work for long."""
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join(BEAT_SECONDS)

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(conf.SHARD_LEASE_SECONDS / BEATS_PER_LEASE):
            try:
                beat_import(job=self._job)
            except DATABASE_ERRORS as error:
                logger.warning("%s: no sign of life (%s)", self._job, error)
            finally:
                connection.close()  # this thread's own


def _record(job: Import, scan: Scan, pulse: _Pulse) -> None:
    """Record the shards that are not done, one after the other.

    Raises:
        TakenOver: Another worker has the import.
    """
    index = {label: n for n, label in enumerate(scan.classes)}
    k = min(ScanSettings().top_k, len(index))
    # How somebody else has cut his folds is not known.
    folds = scan.folds if FoldRun.objects.filter(job=job).exists() else 0
    waiting = scan.shards.unfinished().order_by("number")
    for shard_id in list(waiting.values_list("pk", flat=True)):
        pulse.beat(now=True)
        take_back_shard(shard_id=shard_id)
        shard = claim_shard(shard_id=shard_id, worker=f"import {job.pk}")
        if shard is None:  # the scan was cancelled
            return
        outcomes = _outcomes(shard, index, k, folds)
        store_part(shard=shard, outcomes=outcomes)
        if not record_shard(shard=shard, outcomes=outcomes):
            delete_part(shard=shard)


def _outcomes(shard: Shard, index: dict[int, int], k: int, folds: int) -> list[Outcome]:
    """Return the outcomes of a shard's samples in the order of their ids."""
    scores = _scores(staged_rows(shard.first_sample, shard.last_sample, k=k))
    scan = shard.scan
    samples = (
        Sample.objects.present()
        .in_split(scan.split)
        .filter(
            dataset=scan.dataset_id,
            id__gte=shard.first_sample,
            id__lte=shard.last_sample,
        )
        .order_by("id")
        .values_list("pk", "key", "digest", "label_id")
    )
    found = [
        _outcome(pk, key, digest, scores.get(pk), index.get(label, -1))
        for pk, key, digest, label in samples
    ]
    if not folds:
        return found
    return [replace(one, fold=fold_of(one.digest, folds)) for one in found]


def _scores(rows: npt.NDArray[Any]) -> dict[int, tuple[Any, ...]]:
    """Return sample id -> what an outcome has after its digest."""
    names = ("true_label", "predicted", "confidence", "p_true", "margin", "loss")
    classes, probs = rows["top_classes"].tolist(), rows["top_probs"].tolist()
    if (rows["top_classes"] == -1).any():
        lengths = (rows["top_classes"] != -1).sum(axis=1).tolist()
        classes = [row[:n] for row, n in zip(classes, lengths, strict=True)]
        probs = [row[:n] for row, n in zip(probs, lengths, strict=True)]
    columns = [rows[name].tolist() for name in names]
    scores = zip(*columns, map(tuple, classes), map(tuple, probs), strict=True)
    return dict(zip(rows["sample_id"].tolist(), scores, strict=True))


def _outcome(
    pk: int, key: str, digest: str, scores: tuple[Any, ...] | None, label: int
) -> Outcome:
    if scores is not None and scores[0] >= 0:
        return Outcome(pk, key, digest, *scores)
    sample = SampleRef(id=pk, key=key, url="", label=label, digest=digest)
    return Outcome.unreadable(sample, NO_CLASS if scores else NO_PREDICTION)
