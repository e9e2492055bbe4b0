"""Starting, sharding, cancelling and finishing scans."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from mining.specs import check_classes
from mining.types import ScanSettings
from reviewapp.exceptions import AlreadyRunning, Refused
from reviewapp.models import Dataset, ModelVersion, Registration, Scan, Shard
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import User


def start_scan(
    *,
    dataset: Dataset,
    version: ModelVersion,
    trigger: Scan.Trigger,
    by: User | None,
    split: str = "",
    settings: Mapping[str, Any] | None = None,
) -> Scan:
    """Create a scan and its shards; the caller enqueues `run_shard` for each.

    Raises:
        AlreadyRunning: The same version is being scanned on the data set, or the
            data set is being registered.
        ClassMismatch: The data set's classes are not the model's any more.
        Refused: There is nothing to scan, or a setting is out of range.
    """
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
        .exclude(state__in=(Scan.State.FAILED, Scan.State.CANCELLED))
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


def claim_shard(*, shard_id: int, worker: str) -> Shard | None:
    """Take a waiting shard, or return None when it is not to be had.

    Compare and set: of two workers with the same task only one gets it.
    """
    now = timezone.now()
    taken = Shard.objects.filter(
        pk=shard_id,
        state=Shard.State.QUEUED,
        scan__state__in=(Scan.State.QUEUED, Scan.State.RUNNING),
    ).update(
        state=Shard.State.RUNNING,
        attempts=F("attempts") + 1,
        worker=worker,
        heartbeat_at=now,
        started_at=now,
        samples_done=0,
        message="",
    )
    if not taken:
        return None
    Scan.objects.filter(state=Scan.State.QUEUED, shards__pk=shard_id).update(
        state=Scan.State.RUNNING, started_at=now
    )
    return Shard.objects.select_related(
        "scan__dataset", "scan__model_version__registered_model"
    ).get(pk=shard_id)


def beat_shard(*, shard: Shard, samples_done: int) -> bool:
    """Tell that the shard's worker lives; return False when it should stop.

    It should stop when the scan was cancelled or another worker has the shard.
    """
    return bool(
        Shard.objects.filter(
            pk=shard.pk,
            state=Shard.State.RUNNING,
            attempts=shard.attempts,
            scan__state=Scan.State.RUNNING,
        ).update(samples_done=samples_done, heartbeat_at=timezone.now())
    )


def fail_shard(*, shard: Shard, message: str, final: bool) -> Shard:
    """Give up an attempt: back to the queue, or failed for good.

    It is failed for good when the error is `final` (it would happen again) or the
    attempts are used up.
    """
    over = final or shard.attempts >= conf.SHARD_MAX_ATTEMPTS
    state = Shard.State.QUARANTINED if over else Shard.State.QUEUED
    Shard.objects.filter(
        pk=shard.pk, state=Shard.State.RUNNING, attempts=shard.attempts
    ).update(
        state=state,
        message=message,
        finished_at=timezone.now() if over else None,
        samples_done=0,
    )
    shard.refresh_from_db()
    return shard


def requeue_silent_shards() -> list[int]:
    """Give the shards of dead workers back and return the ids to enqueue again."""
    requeued = []
    for shard in Shard.objects.silent():
        message = (
            f"{shard.worker} has not been heard of since {shard.heartbeat_at:%H:%M}"
        )
        fail_shard(shard=shard, message=message, final=False)
        requeued.append(shard.pk)
    return requeued


def forgotten_shards() -> list[int]:
    """Return the waiting shards of active scans in which nothing has moved for a lease.

    Their messages were lost with the broker. Enqueuing one twice does no harm: a shard
    is claimed once.
    """
    lately = timezone.now() - timedelta(seconds=conf.SHARD_LEASE_SECONDS)
    moving = Shard.objects.filter(scan=OuterRef("scan"), heartbeat_at__gte=lately)
    waiting = Shard.objects.filter(
        state=Shard.State.QUEUED,
        scan__state__in=(Scan.State.QUEUED, Scan.State.RUNNING),
        scan__created_at__lt=lately,
    )
    return list(
        waiting.exclude(Exists(moving)).order_by("id").values_list("pk", flat=True)
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
            message=f"Cancelled by {by}. What finished shards found is kept; the "
            "history does not count this scan.",
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
    return scan
