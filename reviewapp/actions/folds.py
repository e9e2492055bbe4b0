"""Starting, claiming, ending, cancelling and resuming out-of-fold runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from mining.specs import check_classes
from mining.training.folds import MAX_FOLDS
from mining.training.settings import TrainSettings
from reviewapp.actions.imports import abandon_import, claim_import
from reviewapp.actions.training import TRAINABLE
from reviewapp.exceptions import Refused
from reviewapp.models import Dataset, FoldRun, Import, ModelVersion, Scan, Split
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import User

State = FoldRun.State


def start_folds(
    *,
    dataset: Dataset,
    parent: ModelVersion,
    by: User | None,
    folds: int = 5,
    settings: Mapping[str, Any] | None = None,
) -> FoldRun:
    """Queue an out-of-fold scan of the train split; the caller enqueues it.

    Args:
        dataset: Whose samples.
        parent: The version whose architecture the fold models have; their weights are new.
        by: Who asks; None: the command line.
        folds: How many models, 2-20.
        settings: Those of `TrainSettings` that are not the usual ones.

    Raises:
        ClassMismatch: The data set's classes are not the model's any more.
        Refused: There is nothing to train with or on, or a setting is out of range.
    """
    try:
        chosen = TrainSettings.from_dict({**(settings or {}), "start": "scratch"})
    except ValueError as error:
        raise Refused(f"Training settings: {error}.") from error
    if not 2 <= folds <= MAX_FOLDS:
        raise Refused(f"Choose from 2 to {MAX_FOLDS} folds, not {folds}.")
    if parent.registered_model.dataset_id != dataset.pk:
        raise Refused(f"{parent} is not a version of a model of {dataset}.")
    if parent.format not in TRAINABLE:
        raise Refused(
            f"{parent} is {parent.get_format_display()}, which cannot be trained. "
            "Register its weights as safetensors or as a PyTorch state dict."
        )
    check_classes(parent.classes, dataset.class_names())
    if not dataset.samples.present().in_split(Split.TRAIN).exists():
        raise Refused(
            f"{dataset} has no samples in the split train: there is nothing that a "
            "model could have learnt by heart. Start an ordinary scan."
        )
    with transaction.atomic():
        run = FoldRun.objects.create(
            dataset=dataset,
            parent=parent,
            folds=folds,
            settings=chosen.to_dict(),
            requested_by=by,
            requested_at=timezone.now(),
        )
        record(
            "out-of-fold scan started",
            run,
            dataset=dataset,
            actor=by,
            parent=str(parent),
            folds=folds,
        )
    return run


def claim_folds(
    *, run_id: int, worker: str, at: datetime | None = None
) -> FoldRun | None:
    """Take a waiting run, or return None when it is not to be had.

    Compare and set: of two workers with the same task only one gets it. Who asks again
    with the same `at`, as the answer was lost, gets it again.
    """
    now = at or timezone.now()
    with transaction.atomic():
        taken = FoldRun.objects.filter(pk=run_id, state=State.QUEUED).update(
            state=State.RUNNING,
            attempts=F("attempts") + 1,
            worker=worker,
            claimed_at=now,
            heartbeat_at=now,
            started_at=Coalesce("started_at", now),
            progress={},
            message="",
        ) or FoldRun.objects.taken(worker, now).filter(pk=run_id).update(
            heartbeat_at=timezone.now()
        )
        return FoldRun.objects.with_names().get(pk=run_id) if taken else None


def beat_folds(*, run: FoldRun, progress: Mapping[str, Any]) -> bool:
    """Tell that the run's worker lives; return False when it should stop."""
    held = FoldRun.objects.held(run)
    changed = {"progress": dict(progress)} if progress else {}
    return bool(held.update(heartbeat_at=timezone.now(), **changed))


def are_folds_held(*, run: FoldRun) -> bool:
    """Whether the worker with this claim should go on."""
    return FoldRun.objects.held(run).exists()


def begin_import(*, run: FoldRun, job: Import) -> bool:
    """Note the import that records the run's predictions; False: it was taken away.

    One that a dead worker began and did not end is ended: it has no file to go on with.
    """
    before = run.job_id
    if not FoldRun.objects.held(run).update(job=job, losses=0):
        return False
    if before:
        claim_import(import_id=before)
        abandon_import(import_id=before, message="Its worker ended. It is made again.")
    run.job = job
    return True


def finish_folds(*, run: FoldRun, scan: Scan, notes: Sequence[str]) -> FoldRun:
    """End a held run with the scan that came of it."""
    with transaction.atomic():
        done = FoldRun.objects.held(run).update(
            state=State.DONE,
            scan=scan,
            notes=list(notes),
            finished_at=timezone.now(),
        )
        run.refresh_from_db()
        if done:
            record(
                "out-of-fold scan done",
                run,
                dataset=run.dataset,
                actor=None,
                scan=scan.pk,
            )
    return run


def fail_folds(*, run: FoldRun, message: str) -> FoldRun:
    """End a held run by an error; the folds that are done are kept."""
    with transaction.atomic():
        failed = FoldRun.objects.held(run).update(
            state=State.FAILED, message=message, finished_at=timezone.now()
        )
        run.refresh_from_db()
        if failed:
            _record_failure(run)
    return run


def _record_failure(run: FoldRun) -> None:
    record(
        "out-of-fold scan failed",
        run,
        dataset=run.dataset,
        actor=None,
        why=run.message,
    )


def cancel_folds(*, run: FoldRun, by: User | None) -> FoldRun:
    """Stop a run; it can be resumed, and what is done is kept.

    Raises:
        Refused: It has ended already.
    """
    with transaction.atomic():
        stopped = FoldRun.objects.filter(pk=run.pk, state__in=FoldRun.ACTIVE).update(
            state=State.CANCELLED,
            finished_at=timezone.now(),
            message=f"Stopped by {by or 'the command line'}. The folds that are done "
            "are kept: it can be resumed.",
        )
        run.refresh_from_db()
        if not stopped:
            raise Refused(f"{run} is {run.state} already.".capitalize())
        record("out-of-fold scan cancelled", run, dataset=run.dataset, actor=by)
    return run


def resume_folds(*, run: FoldRun, by: User | None) -> FoldRun:
    """Queue a failed or cancelled run again; the caller enqueues it.

    Raises:
        Refused: There is nothing to resume.
    """
    with transaction.atomic():
        resumed = FoldRun.objects.filter(pk=run.pk, state__in=FoldRun.RESUMABLE).update(
            state=State.QUEUED,
            requested_at=timezone.now(),
            finished_at=None,
            progress={},
            losses=0,
            message="",
        )
        run.refresh_from_db()
        if not resumed:
            raise Refused(f"{run} is {run.state}: nothing to resume.".capitalize())
        record("out-of-fold scan resumed", run, dataset=run.dataset, actor=by)
    return run


def requeue_silent_folds() -> list[int]:
    """Give the runs of silent workers back and return the ids to enqueue again."""
    requeued = []
    for run in FoldRun.objects.silent().select_related("dataset"):
        over = run.losses + 1 >= conf.SHARD_MAX_LOSSES
        message = (
            f"{run.worker} was not heard of after {run.heartbeat_at:%Y-%m-%d %H:%M} "
            "(UTC): it was stopped, or ran out of memory."
        )
        if over:
            message += " No more workers are given to it; it can be resumed."
        with transaction.atomic():
            # Silent still: one that spoke up meanwhile goes on.
            same = FoldRun.objects.silent().filter(pk=run.pk, attempts=run.attempts)
            given_back = same.update(
                state=State.FAILED if over else State.QUEUED,
                requested_at=timezone.now(),
                finished_at=timezone.now() if over else None,
                losses=F("losses") + 1,
                message=message,
            )
            run.refresh_from_db()
            if given_back and over:
                _record_failure(run)
        if given_back and not over:
            requeued.append(run.pk)
    return requeued


def forgotten_folds(*, messages: int | None) -> list[int]:
    """Return the waiting runs to enqueue again because messages were lost.

    Args:
        messages: How many the broker holds in their queue; None: it does not answer.
    """
    if messages is None:
        return []
    waiting = list(
        FoldRun.objects.waiting_long().order_by("pk").values_list("pk", flat=True)
    )
    return waiting if messages < len(waiting) else []
