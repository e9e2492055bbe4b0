"""Shards: claimed by one worker at a time, given back, repeated and given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings as conf
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from reviewapp.actions.scans import COUNTS, fail_scan
from reviewapp.models import Scan, Shard


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
