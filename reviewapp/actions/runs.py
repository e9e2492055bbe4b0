"""What a worker and a person do to a run of any kind: claim, end, stop, resume, give back."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings as conf
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from reviewapp.actions.telling import tell_of_training
from reviewapp.exceptions import Refused
from reviewapp.models import TrainingRun
from reviewapp.models.events import record
from reviewapp.models.runs import R, Run, RunQuerySet
from reviewapp.storage import delete_files, storage_errors

if TYPE_CHECKING:
    from reviewapp.models import User

logger = logging.getLogger(__name__)

State = Run.State
KEPT: Final = timedelta(days=30)  # what one that was not resumed can go on from
AT_ONCE: Final = 20
FORGOTTEN: Final = (
    f" After {KEPT.days} days nothing is left that it could go on from: "
    "resumed, it begins anew."
)


def _all(kind: type[R]) -> RunQuerySet[R]:
    return RunQuerySet(kind)


def claim_run(
    *, kind: type[R], run_id: int, worker: str, at: datetime | None = None
) -> R | None:
    """Take a waiting run, or return None when it is not to be had.

    Compare and set: of two workers with the same task only one gets it. The run comes
    with the number of the attempt, under which alone its worker may write. Who asks
    again with the same `at`, as the answer was lost, gets it again.
    """
    now = at or timezone.now()
    runs = _all(kind).filter(pk=run_id)
    with transaction.atomic():
        taken = runs.filter(state=State.QUEUED).update(
            state=State.RUNNING,
            attempts=F("attempts") + 1,
            worker=worker,
            claimed_at=now,
            heartbeat_at=now,
            started_at=Coalesce("started_at", now),
            progress={},
            message="",
        ) or runs.taken(worker, now).update(heartbeat_at=timezone.now())
        return runs.with_names().get() if taken else None


def beat_run(*, run: Run, **columns: Any) -> bool:
    """Write under a claim that its worker lives; return False when it should stop."""
    held = _all(type(run)).held(run)
    return bool(held.update(heartbeat_at=timezone.now(), **columns))


def is_run_held(*, run: Run) -> bool:
    """Whether the worker with this claim should go on."""
    return _all(type(run)).held(run).exists()


def fail_run(*, run: R, message: str) -> R:
    """End a held run by an error; what it can go on from is kept."""
    with transaction.atomic():
        held = _all(type(run)).held(run)
        ended = {"state": State.FAILED, "finished_at": timezone.now()}
        if _change(run, held, **ended, message=message):
            _record_failure(run)
    return run


def _change(run: R, rows: RunQuerySet[R], **columns: Any) -> bool:
    """Write to a run if it is among the rows, read it anew and tell whether it was."""
    changed = rows.filter(pk=run.pk).update(**columns)
    run.refresh_from_db()
    return bool(changed)


def _record_failure(run: Run) -> None:
    record(f"{run.ACT} failed", run, dataset=run.dataset, actor=None, why=run.message)
    if isinstance(run, TrainingRun):
        tell_of_training(run=run)


def cancel_run(
    *, run: R, by: User | None, at: datetime | None = None, note: str = ""
) -> R:
    """Stop a run; it can be resumed, and what is done is kept.

    Args:
        run: Of any kind.
        by: Who asks; None: the command line.
        at: When; default: now.
        note: What else there is to say of it.

    Raises:
        Refused: It has ended already.
    """
    who = by or "the command line"
    columns = {
        "state": State.CANCELLED,
        "finished_at": at or timezone.now(),
        "message": f"Stopped by {who}. {run.KEPT}: it can be resumed.{note}",
    }
    with transaction.atomic():
        if not _change(run, _all(type(run)).unfinished(), **columns):
            raise Refused(f"{run} is {run.state} already.".capitalize())
        record(f"{run.ACT} cancelled", run, dataset=run.dataset, actor=by)
    return run


def resume_run(*, run: R, by: User | None) -> R:
    """Queue a failed or cancelled run again; the caller enqueues it.

    Raises:
        Refused: There is nothing to resume.
    """
    columns = {
        "state": State.QUEUED,
        "requested_at": timezone.now(),
        "finished_at": None,
        "losses": 0,
        "progress": {},
        "message": "",
    }
    with transaction.atomic():
        if not _change(run, _all(type(run)).resumable(), **columns):
            raise Refused(f"{run} is {run.state}: nothing to resume.".capitalize())
        record(f"{run.ACT} resumed", run, dataset=run.dataset, actor=by)
    return run


# --- what was lost, and what is left over ---------------------------------------------


def requeue_silent_runs(*, kind: type[R]) -> list[int]:
    """Give the runs of silent workers back and return the ids to enqueue again."""
    requeued = []
    for run in _all(kind).silent().select_related("dataset"):
        over = run.losses + 1 >= conf.SHARD_MAX_LOSSES
        message = (
            f"{run.worker} was not heard of after {run.heartbeat_at:%Y-%m-%d %H:%M} "
            "(UTC): it was stopped, or ran out of memory."
        )
        if over:
            message += " No more workers are given to it; it can be resumed."
        with transaction.atomic():
            # Silent still: one that spoke up meanwhile goes on.
            same = _all(kind).silent().filter(attempts=run.attempts)
            given_back = _change(
                run,
                same,
                state=State.FAILED if over else State.QUEUED,
                requested_at=timezone.now(),
                finished_at=timezone.now() if over else None,
                losses=F("losses") + 1,
                progress={},
                message=message,
            )
            if given_back and over:
                _record_failure(run)
        if given_back and not over:
            requeued.append(run.pk)
    return requeued


def forgotten_runs(*, kind: type[R], messages: int | None) -> list[int]:
    """Return the waiting runs to enqueue again because messages were lost.

    Args:
        kind: Of the runs.
        messages: How many the broker holds in their queue; None: it does not answer.
    """
    if messages is None:
        return []
    waiting = _all(kind).waiting_long().order_by("pk")
    ids = list(waiting.values_list("pk", flat=True))
    return ids if messages < len(ids) else []


def forget_states(run: Run) -> bool:
    """Delete what a run could go on from, also of attempts that were killed.

    Returns:
        False when the storage does not answer: it is left over.
    """
    try:
        _, names = default_storage.listdir(run.folder)
    except FileNotFoundError:
        return True
    except storage_errors() as error:
        logger.warning(
            "%s could not be listed (%s) and is left over.", run.folder, error
        )
        return False
    delete_files(f"{run.folder}/{name}" for name in names)
    return True


def forget_old_states(*, kind: type[R]) -> None:
    """Delete what runs that ended a month ago could go on from, some at a time."""
    long_ago = timezone.now() - KEPT
    old = _all(kind).resumable().filter(finished_at__lt=long_ago)
    left = old.exclude(message__endswith=FORGOTTEN)
    for pk in list(left.order_by("pk").values_list("pk", flat=True)[:AT_ONCE]):
        with transaction.atomic():
            # Locked: one that is resumed meanwhile waits, and then finds nothing.
            locked = left.select_for_update(of=("self",), skip_locked=True)
            run = locked.filter(pk=pk).first()
            if run and forget_states(run):
                run.message += FORGOTTEN
                run.save(update_fields=["message"])
