"""The end of a scan: its artefact, its counts, and what they mean for findings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from mining.artefact import (
    iter_columns,
    merge_outcomes,
    read_classes,
    write_outcomes,
)
from mining.exceptions import ArtefactError, ScanCountMismatch
from mining.types import Outcome
from reviewapp.actions.confusions import update_ledger
from reviewapp.actions.presence import settle_presence
from reviewapp.actions.scans import fail_scan
from reviewapp.actions.shards import repeat_shards
from reviewapp.actions.standings import count_waiting, fold_standings
from reviewapp.actions.telling import tell_of_scan
from reviewapp.copying import copy_columns
from reviewapp.exceptions import plain_message
from reviewapp.models import Preparation, Scan, Shard
from reviewapp.models.events import record
from reviewapp.storage import delete_files, fetch_file, scratch_folder, store_file

logger = logging.getLogger(__name__)


MESSAGES_SHOWN = 3


def part_name(shard: Shard) -> str:
    """Return the storage name of what one attempt at a shard found.

    Each attempt has its own, so that a worker that was given up, but lives on, never
    touches what its successor stores.
    """
    return _part_name(shard, shard.attempts)


def _part_name(shard: Shard, attempt: int) -> str:
    return f"scans/{shard.scan_id}/part-{shard.number:06d}-{attempt}.parquet"


def store_part(*, shard: Shard, outcomes: Sequence[Outcome]) -> None:
    """Store a shard's outcomes; the same outcomes always give the same file.

    Raises:
        ArtefactError: The storage or the scratch disk could not take it.
    """
    with scratch_folder() as folder:
        path = folder / "part.parquet"
        write_outcomes(path, outcomes, classes=shard.scan.model_version.classes)
        store_file(part_name(shard), path)


def delete_part(*, shard: Shard) -> None:
    """Remove what an attempt stored that another one replaced."""
    delete_files([part_name(shard)])


def is_ready_to_finish(scan: Scan) -> bool:
    """Whether an active scan has no shard left to run."""
    return scan.is_active and not scan.shards.unfinished().exists()


def finish_scan(*, scan: Scan) -> Scan:
    """Write the facts of a scan that has no shard left to run.

    All shards done: the scan is done. Some quarantined: it is partial, with the counts
    and the artefact of the others; the history does not hear of it. None done: it
    failed. A shard whose stored part is lost runs again, and the scan with it: the caller
    enqueues it.

    Running it twice, or twice at once, gives the same facts once.

    Raises:
        ArtefactError: The artefact could not be stored; the scan stays finishing, says
            why, and the sweep for lost work tries again.
        OSError: The storage could not be read; likewise.
    """
    shards = _begin(scan)
    done = [shard for shard in shards if shard.state == Shard.State.DONE]
    if shards and not done:
        fail_scan(scan=scan, message=_why(shards))
    elif done:
        try:
            _finish(scan, shards, done)
        except (ArtefactError, OSError) as error:
            _tell(scan, plain_message(error))
            raise
    scan.refresh_from_db()
    if scan.is_done:  # now or before: one that did it may have been killed here
        delete_files(
            _part_name(shard, attempt)
            for shard in scan.shards.all()
            for attempt in range(1, shard.attempts + 1)
        )
    return scan


def _begin(scan: Scan) -> list[Shard]:
    """Mark a scan as finishing and return its shards; none when it is not ready."""
    with transaction.atomic():
        # The row lock keeps a scan that is resumed at this moment out of it.
        locked = Scan.objects.select_for_update(of=("self",)).get(pk=scan.pk)
        if not is_ready_to_finish(locked):
            return []
        Scan.objects.filter(pk=scan.pk).update(state=Scan.State.FINISHING)
        return list(scan.shards.order_by("number"))


def _tell(scan: Scan, why: str) -> None:
    """Say why a scan is still finishing."""
    # The message of an import says how its file was read; that stays.
    Scan.objects.filter(pk=scan.pk, state=Scan.State.FINISHING).exclude(
        trigger=Scan.Trigger.IMPORT
    ).update(message=f"{why} The end of the scan is tried again by itself.")


def _finish(scan: Scan, shards: list[Shard], done: list[Shard]) -> None:
    covered = sum(shard.samples for shard in done)
    # A finisher that sleeps while the scan is resumed must not replace the later file.
    what = "" if len(done) == len(shards) else f"-{covered}-of-{scan.samples}"
    name = f"scans/{scan.pk}/outcomes{what}.parquet"
    with scratch_folder() as folder:
        parts, lost = _fetch_parts(done, folder)
        if lost:
            repeat_shards(scan=scan, shards=lost, message=PART_LOST)
            return
        path = folder / "outcomes.parquet"
        try:
            merge_outcomes(parts, path, expected_rows=covered)
        except ScanCountMismatch as error:
            fail_scan(scan=scan, message=plain_message(error))
            return
        matrix = _count(path, len(scan.classes))
        store_file(name, path)
    with transaction.atomic():
        _write_facts(scan, shards, matrix, name)
    # Not before the facts are committed: whoever reviews would wait for all of it.
    fold_standings()


PART_LOST = "The outcomes of this part were missing or damaged in the storage."


def _fetch_parts(
    shards: Sequence[Shard], folder: Path
) -> tuple[list[Path], list[Shard]]:
    """Copy stored parts to local files; return these, and the shards without one."""
    paths, lost = [], []
    for shard in shards:
        path = folder / f"{shard.number}.parquet"
        try:
            fetch_file(part_name(shard), path)
            read_classes(path)  # whole?
        except (FileNotFoundError, ArtefactError):
            logger.warning("%s: %s is lost or damaged", shard, part_name(shard))
            lost.append(shard)
        else:
            paths.append(path)
    return paths, lost


def _why(shards: Sequence[Shard]) -> str:
    """Say which parts are missing, why, and what to do."""
    failed = [s for s in shards if s.state == Shard.State.QUARANTINED]
    samples = sum(shard.samples for shard in failed)
    total = sum(shard.samples for shard in shards)
    reasons = [
        f"Part {shard.number + 1} was given up after {shard.failures + shard.losses} "
        f"attempt{'' if shard.failures + shard.losses == 1 else 's'}: {shard.message}"
        for shard in failed[:MESSAGES_SHOWN]
    ]
    if len(failed) > MESSAGES_SHOWN:
        reasons.append(
            f"The page of the scan names {len(failed) - MESSAGES_SHOWN} more."
        )
    kept = (
        "What the other parts found is kept and counted; "
        if len(failed) < len(shards)
        else "Nothing was found; "
    )
    return (
        f"{len(failed):,} of {len(shards):,} parts could not be scanned: {samples:,} of "
        f"{total:,} samples are not covered. {' '.join(reasons)} {kept}the history does "
        "not count this scan. Mend the cause and resume the scan."
    )


def _count(path: Path, n_classes: int) -> npt.NDArray[np.int64]:
    """Return the confusion matrix; rows true labels, columns predictions."""
    matrix = np.zeros((n_classes, n_classes), np.int64)
    for table in iter_columns(path, ["true", "predicted"]):
        seen = table.drop_null()
        pairs = seen["true"].to_numpy(), seen["predicted"].to_numpy()
        # Cell by cell: a matrix of a thousand classes is larger than a table.
        places = np.ravel_multi_index(pairs, matrix.shape)
        np.add.at(matrix.reshape(-1), places, 1)
    return matrix


def _write_facts(
    scan: Scan, shards: list[Shard], matrix: npt.NDArray[np.int64], artefact: str
) -> None:
    # The row lock lets one of two finishers through, the other sees it is done; one that
    # slept while the scan was resumed sees other shards.
    locked = Scan.objects.select_for_update(of=("self",)).get(pk=scan.pk)
    seen = [(shard.pk, shard.state, shard.attempts) for shard in shards]
    now = scan.shards.order_by("number").values_list("pk", "state", "attempts")
    if locked.state != Scan.State.FINISHING or seen != list(now):
        return
    _write_counts(scan, matrix)
    totals = scan.shards.filter(state=Shard.State.DONE).aggregate(
        correct=Sum("correct"),
        errors=Sum("errors"),
        near_misses=Sum("near_misses"),
        unreadable=Sum("unreadable"),
        rechecked=Sum("rechecked"),
        changed=Sum("changed"),
    )
    whole = all(shard.state == Shard.State.DONE for shard in shards)
    state, message = Scan.State.DONE, ""
    if scan.trigger == Scan.Trigger.IMPORT:
        message = locked.message
    if not whole:
        state, message = Scan.State.PARTIAL, _why(shards)
    Scan.objects.filter(pk=scan.pk).update(
        **totals,
        state=state,
        message=message,
        artefact=artefact,
        finished_at=timezone.now(),
    )
    if whole and not scan.for_record:
        settle_presence(scan)
        update_ledger(
            dataset=scan.dataset, model=scan.model_version.registered_model, scan=scan
        )
        waiting = count_waiting(scan.model_version.registered_model)
        Scan.objects.filter(pk=scan.pk).update(waiting=waiting)
        Preparation.objects.get_or_create(
            scan=scan,
            what=Preparation.What.AIDS,
            defaults={"due_at": timezone.now()},
        )
    record(f"scan {state.value}", scan, dataset=scan.dataset, actor=None, **totals)
    tell_of_scan(scan=scan)


def _write_counts(scan: Scan, matrix: npt.NDArray[np.int64]) -> None:
    labels = np.array(scan.classes)
    rows, columns = np.nonzero(matrix)
    copy_columns(
        "reviewapp_confusioncount",
        {
            "scan_id": np.full(len(rows), scan.pk),
            "true_label_id": labels[rows],
            "predicted_label_id": labels[columns],
            "count": matrix[rows, columns].astype(np.int32),
        },
    )
