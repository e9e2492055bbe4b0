"""Starting, stopping and resuming training runs, and what their worker notes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone

from mining.specs import check_classes
from mining.training.settings import EpochFigures, TrainSettings
from reviewapp.actions.runs import beat_run, cancel_run, resume_run
from reviewapp.exceptions import Refused
from reviewapp.models import Dataset, ModelVersion, Recipe, Split, TrainingRun
from reviewapp.models.events import record
from reviewapp.storage import delete_files

if TYPE_CHECKING:
    from reviewapp.models import User

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
    require_trainable(dataset, parent)
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


def require_trainable(dataset: Dataset, parent: ModelVersion) -> None:
    """Check that a version is one of the data set's and has weights to train.

    Raises:
        ClassMismatch: The data set's classes are not the model's any more.
        Refused: It is not, or has none.
    """
    if parent.registered_model.dataset_id != dataset.pk:
        raise Refused(f"{parent} is not a version of a model of {dataset}.")
    if parent.format not in TRAINABLE:
        raise Refused(
            f"{parent} is {parent.get_format_display()}, which cannot be trained. "
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


# --- what its worker notes -----------------------------------------------------------


def begin_with(*, run: TrainingRun, material: str) -> bool:
    """Note what it trains with; what was learned from anything else is dropped.

    Returns:
        Whether that happened: the data set changed since an earlier attempt.
    """
    if run.material == material:
        return False
    changed, dropped = bool(run.material), run.saved
    run.material, run.saved, run.epochs = material, "", []
    if beat_run(run=run, material=material, saved="", epochs=[]) and dropped:
        delete_files([dropped])
    return changed


def keep_control(*, run: TrainingRun, content: str) -> bool:
    """Keep the recipe that was drawn for a control; False: the run was taken away."""
    run.content = content
    return beat_run(run=run, content=content)


def note_epoch(*, run: TrainingRun, figures: EpochFigures) -> bool:
    """Keep the figures of an epoch in place of any of it or of later ones."""
    before = [one for one in run.epochs if one["epoch"] < figures.epoch]
    run.epochs = [*before, figures.to_dict()]
    return beat_run(run=run, epochs=run.epochs, losses=0)


def note_saved(*, run: TrainingRun, name: str) -> bool:
    """Let the run go on from this file, and delete the one before.

    When the run was taken away the new file is deleted and False returned.
    """
    before = run.saved
    if not beat_run(run=run, saved=name):
        delete_files([name])
        return False
    run.saved = name
    if before and before != name:
        delete_files([before])
    return True


# --- stopped and resumed --------------------------------------------------------------


def cancel_training(*, run: TrainingRun, by: User | None) -> TrainingRun:
    """Stop a run, and its control with it; both can be resumed from a whole epoch.

    Raises:
        Refused: It has ended already.
    """
    now = timezone.now()
    with transaction.atomic():
        # Locked: one that ends at this moment is none of them, or waits.
        controls = list(run.controls.unfinished().select_for_update(of=("self",)))
        said = [
            f" Its control, {one}, is stopped and resumed with it." for one in controls
        ]
        cancel_run(run=run, by=by, at=now, note="".join(said))
        for control in controls:
            cancel_run(run=control, by=by, at=now, note=f" It was stopped with {run}.")
    return run


def resume_training(*, run: TrainingRun, by: User | None) -> TrainingRun:
    """Queue a failed or cancelled run again; the caller enqueues it.

    It goes on from its last whole epoch and ends in the same weights as one that was
    never stopped, unless the data set changed since: then it begins anew. A control that
    was stopped with it goes on too.

    Raises:
        Refused: There is nothing to resume.
    """
    with transaction.atomic():
        together = run.controls.filter(
            state=TrainingRun.State.CANCELLED, finished_at=run.finished_at
        )
        for one in [run, *together.select_for_update(of=("self",))]:
            resume_run(run=one, by=by)
    return run
