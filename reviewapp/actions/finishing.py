"""The end of a scan: its artefact, its counts, and what they mean for findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from mining.artefact import (
    merge_outcomes,
    read_classes,
    read_outcomes,
    write_outcomes,
)
from mining.confusion import confusion_matrix
from mining.exceptions import ArtefactError, ScanCountMismatch
from mining.types import Outcome
from reviewapp.actions.confusions import update_ledger
from reviewapp.actions.scans import fail_scan
from reviewapp.exceptions import PartLost, plain_message
from reviewapp.models import ConfusionCount, Scan, Shard
from reviewapp.models.events import record
from reviewapp.storage import scratch_folder, store_file


def part_name(shard: Shard) -> str:
    """Return the storage name of a shard's part of the artefact."""
    return f"scans/{shard.scan_id}/part-{shard.number:06d}.parquet"


def store_part(*, shard: Shard, outcomes: Sequence[Outcome]) -> None:
    """Store a shard's outcomes; the same outcomes always give the same file.

    Raises:
        ArtefactError: The storage or the scratch disk could not take it.
    """
    with scratch_folder() as folder:
        path = folder / "part.parquet"
        write_outcomes(path, outcomes, classes=shard.scan.model_version.classes)
        store_file(part_name(shard), path)


def is_ready_to_finish(scan: Scan) -> bool:
    """Whether an active scan has no shard left to run."""
    return (
        scan.state in (Scan.State.RUNNING, Scan.State.FINISHING)
        and not scan.shards.unfinished().exists()
    )


def finish_scan(*, scan: Scan) -> Scan:
    """Write the scan's facts when every shard is done; fail it when one failed.

    Running it twice, or twice at once, gives the same facts once.

    Raises:
        ArtefactError: The artefact could not be stored; the scan stays finishing and
            the sweep for lost work tries again.
    """
    if not is_ready_to_finish(scan):
        return scan
    failed = scan.shards.filter(state=Shard.State.QUARANTINED).order_by("number").first()
    if failed:
        return fail_scan(scan=scan, message=_why(failed))
    Scan.objects.filter(pk=scan.pk, state=Scan.State.RUNNING).update(
        state=Scan.State.FINISHING
    )
    shards = list(scan.shards.order_by("number"))
    name = f"scans/{scan.pk}/outcomes.parquet"
    with scratch_folder() as folder:
        path = folder / "outcomes.parquet"
        try:
            parts = [_fetch_part(shard, folder) for shard in shards]
            merge_outcomes(parts, path, expected_rows=sum(s.samples for s in shards))
        except (PartLost, ScanCountMismatch) as error:
            return fail_scan(scan=scan, message=plain_message(error))
        matrix = _count(path, len(scan.classes))
        store_file(name, path)
    with transaction.atomic():
        _write_facts(scan, matrix, name)
    for shard in shards:
        default_storage.delete(part_name(shard))
    scan.refresh_from_db()
    return scan


def _why(shard: Shard) -> str:
    return (
        f"Part {shard.number + 1} of the scan failed after {shard.attempts} "
        f"attempt{'' if shard.attempts == 1 else 's'}: {shard.message} What the other "
        "parts found is kept; the history does not count this scan. Mend the cause "
        "and scan again."
    )


def _fetch_part(shard: Shard, folder: Path) -> Path:
    """Copy a stored part to a local file and check that it is whole."""
    path = folder / f"{shard.number}.parquet"
    try:
        with default_storage.open(part_name(shard)) as stored, path.open("wb") as copy:
            for block in stored.chunks(1 << 20):
                copy.write(block)
        read_classes(path)
    except (FileNotFoundError, ArtefactError) as error:
        raise PartLost(
            f"The outcomes of part {shard.number + 1} are missing or damaged in the "
            f"storage ({error}). What was found is kept; the history does not count "
            "this scan. Scan again."
        ) from error
    return path


def _count(path: Path, n_classes: int) -> npt.NDArray[np.int64]:
    """Return the confusion matrix; rows true labels, columns predictions."""
    table = read_outcomes(path, ["true", "predicted"]).drop_null()
    return confusion_matrix(
        table["true"].to_numpy(), table["predicted"].to_numpy(), n_classes
    )


def _write_facts(scan: Scan, matrix: npt.NDArray[np.int64], artefact: str) -> None:
    # The row lock lets one of two finishers through, the other sees it is done.
    locked = Scan.objects.select_for_update(of=("self",)).get(pk=scan.pk)
    if locked.state != Scan.State.FINISHING:
        return
    rows, columns = np.nonzero(matrix)
    ConfusionCount.objects.bulk_create(
        [
            ConfusionCount(
                scan=scan,
                true_label_id=scan.classes[t],
                predicted_label_id=scan.classes[p],
                count=int(matrix[t, p]),
            )
            for t, p in zip(rows.tolist(), columns.tolist(), strict=True)
        ],
        batch_size=5000,
    )
    totals = scan.shards.aggregate(
        correct=Sum("correct"),
        errors=Sum("errors"),
        near_misses=Sum("near_misses"),
        unreadable=Sum("unreadable"),
    )
    Scan.objects.filter(pk=scan.pk).update(
        **totals, state=Scan.State.DONE, artefact=artefact, finished_at=timezone.now()
    )
    if not scan.for_record:
        _settle_presence(scan)
        update_ledger(
            dataset=scan.dataset, model=scan.model_version.registered_model, scan=scan
        )
    record("scan done", scan, dataset=scan.dataset, actor=None, **totals)


def _settle_presence(scan: Scan) -> None:
    """Mark what the scan covered and did not see again as fixed, or as replaced."""
    with connection.cursor() as cursor:
        cursor.execute(
            SETTLE_PRESENCE,
            {
                "dataset": scan.dataset_id,
                "model": scan.model_version.registered_model_id,
                "scan": scan.pk,
                "split": scan.split,
            },
        )


# Fixed means right now: wrong in another way is another finding, which takes over.
SETTLE_PRESENCE = """
UPDATE reviewapp_finding f
   SET presence = CASE WHEN EXISTS (
         SELECT FROM reviewapp_finding other
           JOIN reviewapp_sighting seen ON seen.finding_id = other.id
          WHERE other.dataset_id = f.dataset_id
            AND other.registered_model_id = f.registered_model_id
            AND other.sample_id = f.sample_id AND other.id <> f.id
            AND other.kind = 'misclassified' AND seen.scan_id = %(scan)s)
       THEN 'superseded' ELSE 'fixed' END
  FROM reviewapp_sample s
 WHERE f.dataset_id = %(dataset)s AND f.registered_model_id = %(model)s
   AND f.presence IN ('seen', 'regressed')
   AND s.id = f.sample_id AND s.removed_at IS NULL
   AND (%(split)s = '' OR s.split = %(split)s)
   AND NOT EXISTS (SELECT FROM reviewapp_sighting seen
                    WHERE seen.finding_id = f.id AND seen.scan_id = %(scan)s)
   AND NOT EXISTS (SELECT FROM reviewapp_unreadablesample u
                    WHERE u.sample_id = f.sample_id AND u.scan_id = %(scan)s)
"""
