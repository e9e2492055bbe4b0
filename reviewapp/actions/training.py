"""Starting, claiming, ending, cancelling and resuming training runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings as conf
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from mining.specs import check_classes
from mining.training.settings import EpochFigures, TrainSettings
from reviewapp.actions.telling import tell_of_training
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Dataset,
    ModelVersion,
    Recipe,
    Split,
    TrainingRun,
)
from reviewapp.models.events import record
from reviewapp.storage import delete_files

if TYPE_CHECKING:
    from reviewapp.models import User

State = TrainingRun.State
TRAINABLE: Final = (ModelVersion.Format.SAFETENSORS, ModelVersion.Format.STATE_DICT)


def start_training(
    *,
    dataset: Dataset,
    parent: ModelVersion,
    recipe: Recipe | None,
    by: User | None,
    settings: Mapping[str, Any] | None = None,
    with_control: bool = False,
    scan_split: str = Split.TEST,
) -> TrainingRun:
    """Queue a retraining, and its control when asked; the caller enqueues both.

    Args:
        dataset: Whose samples it trains with.
        parent: The version to start from, of one of the data set's models.
        recipe: What to do with which samples; None: the train split as it is.
        by: Who asks; None: the command line.
        settings: Those of `TrainSettings` that are not the usual ones.
        with_control: Train another version with as many samples, drawn at random.
        scan_split: What the scan of the new version looks at; "": every sample.

    Raises:
        ClassMismatch: The data set's classes are not the model's any more.
        Refused: There is nothing to train with or from, or a setting is out of range.
    """
    try:
        chosen = TrainSettings.from_dict(dict(settings or {}))
    except ValueError as error:
        raise Refused(f"Training settings: {error}.") from error
    _require_trainable(dataset, parent)
    _require_samples(dataset, recipe, chosen)
    _require_split(dataset, scan_split)
    if with_control and recipe is None:
        raise Refused("Only a recipe has a control. Choose a fix set, or no control.")
    now = timezone.now()
    shared = {
        "dataset": dataset,
        "parent": parent,
        "settings": chosen.to_dict(),
        "scan_split": scan_split,
        "requested_by": by,
        "requested_at": now,
    }
    with transaction.atomic():
        run = TrainingRun.objects.create(recipe=recipe, **shared)
        if with_control:
            TrainingRun.objects.create(control_of=run, **shared)
        record(
            "training started",
            run,
            dataset=dataset,
            actor=by,
            parent=str(parent),
            recipe=recipe and recipe.digest,
            control=with_control,
        )
    return run


def _require_trainable(dataset: Dataset, parent: ModelVersion) -> None:
    if parent.registered_model.dataset_id != dataset.pk:
        raise Refused(f"{parent} is not a version of a model of {dataset}.")
    if parent.format not in TRAINABLE:
        raise Refused(
            f"{parent} is {parent.get_format_display()}, which cannot be trained on. "
            "Register its weights as safetensors or as a PyTorch state dict."
        )
    check_classes(parent.classes, dataset.class_names())


def _require_samples(
    dataset: Dataset, recipe: Recipe | None, chosen: TrainSettings
) -> None:
    if recipe is None:
        if not chosen.rest:
            raise Refused("Without a recipe only the whole train split can be used.")
        if not dataset.samples.present().in_split(Split.TRAIN).exists():
            raise Refused(
                f"{dataset} has no samples in the split train. Choose a fix set, or "
                "register the data set with a train split."
            )
        return
    if recipe.fix_set.dataset_id != dataset.pk:
        raise Refused(f"{recipe} is of another data set.")
    if not recipe.is_done:
        raise Refused(f"{recipe} is {recipe.state}. Train with it when it is done.")


def _require_split(dataset: Dataset, split: str) -> None:
    if split not in Split.values:
        raise Refused(f"There is no split {split!r}.")
    if not dataset.samples.present().in_split(split).exists():
        raise Refused(
            f"{dataset} has no samples in the split {split} to scan the new version "
            "with. Choose another split."
        )


# --- a worker's claim -----------------------------------------------------------------


def claim_training(
    *, run_id: int, worker: str, at: datetime | None = None
) -> TrainingRun | None:
    """Take a waiting run, or return None when it is not to be had.

    Compare and set: of two workers with the same task only one gets it. The run comes
    with the number of the attempt, under which alone its worker may write. Who asks
    again with the same `at`, as the answer was lost, gets it again.
    """
    now = at or timezone.now()
    with transaction.atomic():
        taken = TrainingRun.objects.filter(pk=run_id, state=State.QUEUED).update(
            state=State.RUNNING,
            attempts=F("attempts") + 1,
            worker=worker,
            claimed_at=now,
            heartbeat_at=now,
            started_at=Coalesce("started_at", now),
            progress={},
            message="",
        ) or TrainingRun.objects.taken(worker, now).filter(pk=run_id).update(
            heartbeat_at=timezone.now()
        )
        return TrainingRun.objects.with_names().get(pk=run_id) if taken else None


def beat_training(*, run: TrainingRun, progress: Mapping[str, Any]) -> bool:
    """Tell that the run's worker lives; return False when it should stop."""
    return _write(run, progress=dict(progress))


def is_training_held(*, run: TrainingRun) -> bool:
    """Whether the worker with this claim should go on."""
    return TrainingRun.objects.held(run).exists()


def begin_with(*, run: TrainingRun, material: str) -> bool:
    """Note what it trains with; what was learned from anything else is dropped.

    Returns:
        Whether that happened: the data set changed since an earlier attempt.
    """
    if run.material == material:
        return False
    changed, dropped = bool(run.material), run.saved
    run.material, run.saved, run.epochs = material, "", []
    if _write(run, material=material, saved="", epochs=[]) and dropped:
        delete_files([dropped])
    return changed


def keep_control(*, run: TrainingRun, content: str) -> bool:
    """Keep the recipe that was drawn for a control; False: the run was taken away."""
    run.content = content
    return _write(run, content=content)


def note_epoch(*, run: TrainingRun, figures: EpochFigures) -> bool:
    """Keep the figures of an epoch in place of any of it or of later ones."""
    before = [one for one in run.epochs if one["epoch"] < figures.epoch]
    run.epochs = [*before, figures.to_dict()]
    return _write(run, epochs=run.epochs, losses=0)


def note_saved(*, run: TrainingRun, name: str) -> bool:
    """Let the run go on from this file, and delete the one before.

    When the run was taken away the new file is deleted and False returned.
    """
    before = run.saved
    if not _write(run, saved=name):
        delete_files([name])
        return False
    run.saved = name
    if before and before != name:
        delete_files([before])
    return True


def _write(run: TrainingRun, **columns: Any) -> bool:
    held = TrainingRun.objects.held(run)
    return bool(held.update(heartbeat_at=timezone.now(), **columns))


# --- its end --------------------------------------------------------------------------


def fail_training(*, run: TrainingRun, message: str) -> TrainingRun:
    """End a held run by an error; what it can go on from is kept."""
    with transaction.atomic():
        failed = TrainingRun.objects.held(run).update(
            state=State.FAILED, message=message, finished_at=timezone.now()
        )
        run.refresh_from_db()
        if failed:
            _record_failure(run)
    return run


def _record_failure(run: TrainingRun) -> None:
    record("training failed", run, dataset=run.dataset, actor=None, why=run.message)
    tell_of_training(run=run)


def cancel_training(*, run: TrainingRun, by: User | None) -> TrainingRun:
    """Stop a run; it can be resumed from its last whole epoch.

    Raises:
        Refused: It has ended already.
    """
    with transaction.atomic():
        stopped = TrainingRun.objects.filter(
            pk=run.pk, state__in=TrainingRun.ACTIVE
        ).update(
            state=State.CANCELLED,
            finished_at=timezone.now(),
            message=f"Stopped by {by or 'the command line'}. Its last whole epoch is "
            "kept: it can be resumed.",
        )
        run.refresh_from_db()
        if not stopped:
            raise Refused(f"{run} is {run.state} already.".capitalize())
        record("training cancelled", run, dataset=run.dataset, actor=by)
    return run


def resume_training(*, run: TrainingRun, by: User | None) -> TrainingRun:
    """Queue a failed or cancelled run again; the caller enqueues it.

    It goes on from its last whole epoch and ends in the same weights as one that was
    never stopped, unless the data set changed since: then it begins anew.

    Raises:
        Refused: There is nothing to resume.
    """
    with transaction.atomic():
        resumed = TrainingRun.objects.filter(
            pk=run.pk, state__in=TrainingRun.RESUMABLE
        ).update(
            state=State.QUEUED,
            requested_at=timezone.now(),
            finished_at=None,
            losses=0,
            progress={},
            message="",
        )
        run.refresh_from_db()
        if not resumed:
            raise Refused(f"{run} is {run.state}: nothing to resume.".capitalize())
        record("training resumed", run, dataset=run.dataset, actor=by)
    return run


# --- what was lost --------------------------------------------------------------------


def requeue_silent_trainings() -> list[int]:
    """Give the runs of silent workers back and return the ids to enqueue again."""
    requeued = []
    for run in TrainingRun.objects.silent().select_related("dataset"):
        over = run.losses + 1 >= conf.SHARD_MAX_LOSSES
        heard = f"{run.heartbeat_at:%Y-%m-%d %H:%M}"
        message = (
            f"{run.worker} was not heard of after {heard} (UTC): it was stopped, or ran "
            "out of memory."
        )
        if over:
            message += " No more workers are given to it; it can be resumed."
        with transaction.atomic():
            # Silent still: one that spoke up meanwhile goes on.
            same = TrainingRun.objects.silent().filter(pk=run.pk, attempts=run.attempts)
            given_back = same.update(
                state=State.FAILED if over else State.QUEUED,
                requested_at=timezone.now(),
                finished_at=timezone.now() if over else None,
                losses=F("losses") + 1,
                progress={},
                message=message,
            )
            run.refresh_from_db()
            if given_back and over:
                _record_failure(run)
        if given_back and not over:
            requeued.append(run.pk)
    return requeued


def forgotten_trainings(*, messages: int | None) -> list[int]:
    """Return the waiting runs to enqueue again because messages were lost.

    Args:
        messages: How many the broker holds in their queue; None: it does not answer.
    """
    if messages is None:
        return []
    waiting = TrainingRun.objects.waiting_long().order_by("pk")
    ids = list(waiting.values_list("pk", flat=True))
    return ids if messages < len(ids) else []
