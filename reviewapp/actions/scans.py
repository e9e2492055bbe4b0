"""Starting, sharding, cancelling and resuming scans, and who may write what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.db import connection, transaction
from django.db.models import F
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


def claim_shard(
    *, shard_id: int, worker: str, at: datetime | None = None
) -> Shard | None:
    """Take a waiting shard, or return None when it is not to be had.

    Compare and set: of two workers with the same task only one gets it. The shard comes
    with its scan, and with the number of the attempt, under which alone its worker may
    write. Who asks again with the same `at`, as the answer was lost, gets it again.
    """
    now = at or timezone.now()
    with transaction.atomic():  # until its end the row, and so the number, is ours
        taken = (
            Shard.objects.claimable()
            .filter(pk=shard_id)
            .update(
                state=Shard.State.RUNNING,
                attempts=F("attempts") + 1,
                worker=worker,
                heartbeat_at=now,
                started_at=now,
                samples_done=0,
                pace={},
                message="",
            )
        ) or Shard.objects.taken(worker, now).filter(pk=shard_id).update(
            heartbeat_at=timezone.now()
        )
        if not taken:
            return None
        shard = Shard.objects.select_related(
            "scan__dataset", "scan__model_version__registered_model"
        ).get(pk=shard_id)
        if shard.scan.state == Scan.State.QUEUED:
            Scan.objects.filter(pk=shard.scan_id, state=Scan.State.QUEUED).update(
                state=Scan.State.RUNNING, started_at=now
            )
    return shard


def beat_shard(
    *, shard: Shard, samples_done: int, pace: Mapping[str, Any] | None = None
) -> bool:
    """Tell that the shard's worker lives; return False when it should stop.

    It should stop when the scan was cancelled or another worker has the shard.
    """
    known = {} if pace is None else {"pace": pace}
    return bool(
        Shard.objects.held(shard).update(
            samples_done=samples_done, heartbeat_at=timezone.now(), **known
        )
    )


def is_shard_held(*, shard: Shard) -> bool:
    """Whether the worker with this claim should go on."""
    return Shard.objects.held(shard).exists()


def fail_shard(*, shard: Shard, message: str, final: bool) -> Shard:
    """End an attempt by an error: back to the queue, or quarantined.

    It is quarantined after SHARD_MAX_FAILURES errors. An error that is `final`, which
    every other shard would meet too, fails the scan at once.
    """
    with transaction.atomic():
        held = Shard.objects.filter(
            pk=shard.pk, state=Shard.State.RUNNING, attempts=shard.attempts
        )
        ended = held.update(**_after(shard, message, failures=1, final=final))
        if ended and final:
            fail_scan(
                scan=shard.scan,
                message=f"No part of it can be scanned: {message} What was found before "
                "is kept; the history does not count this scan. Mend the cause and "
                "resume the scan.",
            )
    shard.refresh_from_db()
    return shard


def repeat_shards(*, scan: Scan, shards: Iterable[Shard], message: str) -> None:
    """Forget what done shards of a finishing scan found, and queue them again.

    It counts as a failed attempt of each.
    """
    with transaction.atomic():
        if not Scan.objects.filter(pk=scan.pk, state=Scan.State.FINISHING).update(
            state=Scan.State.RUNNING
        ):
            return
        for shard in shards:
            first, last = shard.first_sample, shard.last_sample
            scan.sightings.filter(
                finding__sample__gte=first, finding__sample__lte=last
            ).delete()
            scan.unreadable_samples.filter(sample__gte=first, sample__lte=last).delete()
            Shard.objects.filter(pk=shard.pk).update(
                **_after(shard, message, failures=1), **dict.fromkeys(COUNTS, 0)
            )


def _after(
    shard: Shard,
    message: str,
    *,
    failures: int = 0,
    losses: int = 0,
    final: bool = False,
) -> dict[str, Any]:
    """Return a shard's columns after an attempt that came to nothing."""
    failures += shard.failures
    losses += shard.losses
    over = (
        final or failures >= conf.SHARD_MAX_FAILURES or losses >= conf.SHARD_MAX_LOSSES
    )
    return {
        "state": Shard.State.QUARANTINED if over else Shard.State.QUEUED,
        "failures": failures,
        "losses": losses,
        "message": message,
        "samples_done": 0,
        "finished_at": timezone.now() if over else None,
    }


def requeue_silent_shards() -> list[int]:
    """Give the shards of silent workers back and return the ids to enqueue again."""
    requeued = []
    for shard in Shard.objects.silent().of_workers():
        message = (
            f"{shard.worker} was not heard of after {shard.heartbeat_at:%Y-%m-%d %H:%M} "
            "(UTC): it was stopped, or ran out of memory."
        )
        after = _after(shard, message, losses=1)
        # Silent still: one that spoke up meanwhile goes on.
        same = Shard.objects.silent().filter(pk=shard.pk, attempts=shard.attempts)
        if same.update(**after) and after["state"] == Shard.State.QUEUED:
            requeued.append(shard.pk)
    return requeued


def forgotten_shards(*, messages: int | None) -> list[int]:
    """Return the waiting shards to enqueue again because messages were lost.

    Enqueuing a shard twice does no harm, as it is claimed once; enqueuing all of them
    every minute would fill the broker. While it holds as many messages as shards wait,
    none is missing.

    Args:
        messages: How many the broker holds; None when it does not answer.
    """
    if messages is None:
        return []
    waiting = list(
        Shard.objects.waiting_long().order_by("id").values_list("pk", flat=True)
    )
    return waiting if messages < len(waiting) else []


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
