"""Starting out-of-fold runs, and what their worker notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from mining.training.folds import MAX_FOLDS
from mining.training.settings import TrainSettings
from reviewapp.actions.imports import abandon_import, claim_import
from reviewapp.actions.runs import beat_run
from reviewapp.actions.training import require_trainable
from reviewapp.exceptions import Refused
from reviewapp.models import Dataset, FoldRun, Import, ModelVersion, Scan, Split
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import User


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
    require_trainable(dataset, parent)
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


def begin_import(*, run: FoldRun, job: Import) -> bool:
    """Note the import that records the run's predictions; False: it was taken away.

    One that a dead worker began and did not end is ended: it has no file to go on with.
    """
    before = run.job_id
    if not beat_run(run=run, job=job, losses=0):
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
            state=FoldRun.State.DONE,
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
