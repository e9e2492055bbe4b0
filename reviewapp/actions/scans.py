"""Starting, cutting up, cancelling and resuming scans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from mining.specs import check_classes
from mining.types import ScanSettings
from reviewapp.actions.telling import tell_of_scan
from reviewapp.exceptions import AlreadyRunning, Refused
from reviewapp.models import (
    Dataset,
    ModelVersion,
    Registration,
    Scan,
    Shard,
    Split,
)
from reviewapp.models.events import record
from reviewapp.storage import delete_files

if TYPE_CHECKING:
    from reviewapp.models import User

COUNTS = ("correct", "errors", "near_misses", "unreadable", "rechecked", "changed")


def start_scan(
    *,
    dataset: Dataset,
    version: ModelVersion,
    trigger: Scan.Trigger,
    by: User | None,
    split: str = "",
    settings: Mapping[str, Any] | None = None,
    folds: int = 0,
) -> Scan:
    """Create a scan and its shards; the caller enqueues `run_shard` for each.

    Args:
        dataset: Whose samples to look at.
        version: What to look at them with.
        trigger: What it is started by.
        by: Who asks; None: the command line or a schedule.
        split: The samples to look at; "": all.
        settings: Those of `ScanSettings` that are not the usual ones.
        folds: Of imported out-of-fold predictions: how many models made them.

    Raises:
        AlreadyRunning: The same version is being scanned on the data set, or the
            data set is being registered.
        ClassMismatch: The data set's classes are not the model's any more.
        Refused: There is nothing to scan or nothing to scan with, or a setting is out
            of range.
    """
    if trigger != Scan.Trigger.IMPORT:
        _require_checkpoint(version)
    try:
        chosen = ScanSettings.from_dict(dict(settings or {}))
    except ValueError as error:
        raise Refused(f"Scan settings: {error}.") from error
    check_classes(version.classes, dataset.class_names())
    with transaction.atomic():
        # Keeps registrations and other scans of this data set out meanwhile.
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        _refuse_while_busy(dataset, version)
        scan = Scan.objects.create(
            dataset=dataset,
            model_version=version,
            split=split,
            trigger=trigger,
            requested_by=by,
            settings=chosen.to_dict(),
            for_record=_newer_version_scanned(dataset, version),
            folds=folds,
            covers_train=_covers_train(dataset, split),
            classes=list(dataset.labels.current().values_list("id", flat=True)),
        )
        shards = _make_shards(scan, chosen.shard_size)
        if not shards:
            raise Refused(
                f"{dataset} has no samples"
                + (f" in the split {split}" if split else "")
                + ". Register it, or choose another split."
            )
        scan.samples = sum(shard.samples for shard in shards)
        scan.save(update_fields=["samples"])
        record("scan started", scan, dataset=dataset, actor=by, trigger=trigger)
    return scan


def _covers_train(dataset: Dataset, split: str) -> bool:
    train = dataset.samples.present().in_split(Split.TRAIN)
    return split in (Split.TRAIN, "") and train.exists()


def _require_checkpoint(version: ModelVersion) -> None:
    if not version.has_checkpoint:
        raise Refused(
            f"{version} has no checkpoint to run: it is predictions that were made "
            "elsewhere. Import new predictions, or register a checkpoint as a version."
        )


def _refuse_while_busy(dataset: Dataset, version: ModelVersion) -> None:
    if dataset.registrations.filter(state__in=Registration.ACTIVE).exists():
        raise AlreadyRunning(
            f"{dataset} is being registered. Scan it when that is done."
        )
    running = (
        Scan.objects.active().filter(dataset=dataset, model_version=version).first()
    )
    if running:
        raise AlreadyRunning(
            f"Scan {running.pk} of {version} on {dataset} is still {running.state}."
        )


def _newer_version_scanned(dataset: Dataset, version: ModelVersion) -> bool:
    return (
        Scan.objects.for_dataset(dataset)
        .filter(
            model_version__registered_model=version.registered_model,
            model_version__number__gt=version.number,
        )
        .exclude(state__in=Scan.RESUMABLE)
        .exists()
    )


def _make_shards(scan: Scan, size: int) -> list[Shard]:
    """Cut the scan's samples, in id order, into runs of `size`."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT n, min(id), max(id), count(*)
              FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1) / %(size)s AS n
                      FROM reviewapp_sample
                     WHERE dataset_id = %(dataset)s AND removed_at IS NULL
                       AND (%(split)s = '' OR split = %(split)s)) numbered
             GROUP BY n ORDER BY n
            """,
            {"size": size, "dataset": scan.dataset_id, "split": scan.split},
        )
        return Shard.objects.bulk_create(
            [
                Shard(scan=scan, number=n, first_sample=a, last_sample=b, samples=c)
                for n, a, b, c in cursor.fetchall()
            ]
        )


def resume_scan(*, scan: Scan, by: User | None) -> Scan:
    """Run the shards that a scan lacks; the caller enqueues it.

    What its finished shards found is kept; the others start without a record.

    Raises:
        AlreadyRunning: The same version is being scanned on the data set, or the data
            set is being registered.
        Refused: The scan has not ended or is done; or what it found would mix with
            something newer: the data set was registered again, or the model scanned.
    """
    if scan.trigger == Scan.Trigger.IMPORT:
        raise Refused("Its predictions came from a file: import that file again.")
    with transaction.atomic():
        # Keeps registrations and other scans of this data set out meanwhile.
        Dataset.objects.select_for_update().get(pk=scan.dataset_id)
        scan.refresh_from_db()
        if scan.state not in Scan.RESUMABLE:
            raise Refused(
                f"Scan {scan.pk} is {scan.state}: there is nothing to resume."
            )
        _refuse_while_busy(scan.dataset, scan.model_version)
        _refuse_outdated(scan)
        artefact = scan.artefact
        Scan.objects.filter(pk=scan.pk).update(
            state=Scan.State.RUNNING,
            started_at=Coalesce("started_at", Now()),
            finished_at=None,
            message="",
            artefact="",
            **dict.fromkeys(COUNTS),
        )
        scan.confusion_counts.all().delete()
        scan.shards.undone().update(
            state=Shard.State.QUEUED,
            failures=0,
            losses=0,
            samples_done=0,
            message="",
            finished_at=None,
            heartbeat_at=timezone.now(),  # its message is on its way
        )
        scan.refresh_from_db()
        record("scan resumed", scan, dataset=scan.dataset, actor=by)
        if artefact:
            transaction.on_commit(lambda: delete_files([artefact]))
    return scan


def _refuse_outdated(scan: Scan) -> None:
    registered = scan.dataset.registrations.filter(
        state=Registration.State.DONE, finished_at__gte=scan.created_at
    )
    if registered.exists():
        raise Refused(
            f"{scan.dataset} was registered again since scan {scan.pk} started: its "
            "parts are not the same samples any more. Start a new scan."
        )
    model = scan.model_version.registered_model
    newer = (
        Scan.objects.for_dataset(scan.dataset)
        .of_model(model)
        .filter(pk__gt=scan.pk)
        .exclude(state__in=(Scan.State.FAILED, Scan.State.CANCELLED))
        .first()
    )
    if newer:
        raise Refused(
            f"Scan {newer.pk} of {model} is newer and {newer.state}: what scan {scan.pk} "
            "finds now would overwrite what it found. Start a new scan."
        )


def cancel_scan(*, scan: Scan, by: User) -> Scan:
    """Stop a scan; what its finished shards found stays.

    Raises:
        Refused: The scan has ended already.
    """
    with transaction.atomic():
        stopped = Scan.objects.filter(pk=scan.pk, state__in=Scan.ACTIVE).update(
            state=Scan.State.CANCELLED,
            finished_at=timezone.now(),
            message=f"Cancelled by {by}. What finished parts found is kept; the "
            "history does not count this scan. It can be resumed.",
        )
        scan.refresh_from_db()
        if not stopped:
            raise Refused(f"{scan} is {scan.state} already.".capitalize())
        record("scan cancelled", scan, dataset=scan.dataset, actor=by)
    return scan


def fail_scan(*, scan: Scan, message: str) -> Scan:
    """End an active scan as failed, with the reason."""
    with transaction.atomic():
        failed = Scan.objects.filter(pk=scan.pk, state__in=Scan.ACTIVE).update(
            state=Scan.State.FAILED, message=message, finished_at=timezone.now()
        )
        scan.refresh_from_db()
        if failed:
            record("scan failed", scan, dataset=scan.dataset, actor=None, why=message)
            tell_of_scan(scan=scan)
    return scan
