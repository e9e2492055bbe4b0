"""From trained weights to a registered version, and to the scans that verify it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from mining.exceptions import MiningError
from mining.specs import checkpoint_digest
from reviewapp.actions.exports import claim_lines
from reviewapp.actions.registry import register_version
from reviewapp.actions.scans import start_scan
from reviewapp.actions.telling import tell_of_training
from reviewapp.exceptions import HardmineError
from reviewapp.models import Export, FixSet, ModelVersion, Scan, TrainingRun
from reviewapp.models.events import record

TRIED: Final = timedelta(days=1)  # a scan that is in the way has ended by then
_CONTROL: Final = " control"
_NAME_LENGTH: Final = 100


def finish_training(
    *,
    run: TrainingRun,
    checkpoint: str,
    epochs: Sequence[Mapping[str, Any]],
    outcome: Mapping[str, Any],
) -> ModelVersion | None:
    """Register what a held run trained; `start_due_scans` then has it scanned.

    A control becomes a version of a model of its own, so that nothing takes it for the
    next version of the real one.

    Args:
        run: As claimed.
        checkpoint: Where the weights lie, with their spec, under a configured root.
        epochs: The figures of all epochs; a worker that was killed may have told less.
        outcome: What else pages show of the training.

    Returns:
        The version; None when the run was taken away, and nothing was registered.
    """
    # Before anything is locked: it may have gigabytes.
    digest = checkpoint_digest(checkpoint)
    with transaction.atomic():
        held = TrainingRun.objects.held(run).select_for_update(of=("self",))
        if not held.values_list("pk"):
            return None
        fix_set = run.recipe.fix_set if run.recipe else None
        claimed = fix_set is None or _had_its_chance(fix_set)
        version = register_version(
            dataset=run.dataset,
            name=_name_of(run),
            checkpoint=checkpoint,
            by=run.requested_by,
            note=_note_of(run),
            trained_on=fix_set,
            lineage=_lineage_of(run),
            digest=digest,
        )
        now = timezone.now()
        held.update(
            state=TrainingRun.State.DONE,
            version=version,
            epochs=list(epochs),
            outcome=dict(outcome),
            progress={},
            saved="",
            finished_at=now,
            verify_until=now + TRIED,
        )
        run.refresh_from_db()
        record(
            "training done",
            run,
            dataset=run.dataset,
            actor=None,
            version=str(version),
            digest=version.digest,
        )
        if fix_set is not None:
            claim_lines(fix_set=fix_set, at=None if claimed else now)
        tell_of_training(run=run)
    return version


def _had_its_chance(fix_set: FixSet) -> bool:
    exported = fix_set.exports.filter(state=Export.State.DONE).exists()
    return exported or fix_set.trained_versions.exists()


def _name_of(run: TrainingRun) -> str:
    name = run.parent.registered_model.name
    if run.is_control:
        return name[: _NAME_LENGTH - len(_CONTROL)] + _CONTROL
    return name


def _note_of(run: TrainingRun) -> str:
    if run.control_of:
        return (
            f"Control of {run.control_of}: {run.parent} trained with as many samples as "
            f"its recipe has, drawn at random."
        )
    if run.recipe:
        return f"{run.parent} retrained on {run.recipe.fix_set}."
    return f"{run.parent} retrained on the train split as it was."


def _lineage_of(run: TrainingRun) -> dict[str, Any]:
    """Return what the weights follow from, as digests; the same lineage, the same weights."""
    source = run.source()
    recipe = run.load_recipe()
    return {
        "run": run.pk,
        "parent": run.parent.digest,
        "parent_version": run.parent.number,
        "fix_set": source.fix_set.digest if source else "",
        "recipe": recipe.digest if recipe else "",
        "dataset": run.material,
        "settings": run.settings,
        "control": run.is_control,
    }


def start_due_scans() -> list[Scan]:
    """Start the scans of new versions; the caller enqueues them.

    The parent is scanned for the record as well when no scan of it over that split has
    finished. What is in the way, a registration or another scan, is waited for: call this
    again.
    """
    due = TrainingRun.objects.unverified().order_by("pk")
    found: list[Scan] = []
    for pk in list(due.values_list("pk", flat=True)):
        found += _start_scans_of(pk)
    return found


def _start_scans_of(pk: int) -> list[Scan]:
    with transaction.atomic():
        # Locked, so that two callers do not start it twice.
        locked = TrainingRun.objects.unverified().select_for_update(
            of=("self",), skip_locked=True
        )
        run = locked.filter(pk=pk).first()
        if run is None or run.version is None:
            return []
        try:
            with transaction.atomic():
                scans = [_start(run, run.version)]
                if not run.is_control and not _is_scanned(run):
                    scans.append(_start(run, run.parent))
        except (HardmineError, MiningError) as error:
            run.message = (
                f"The version is there; its scan has not started yet: {error} It is "
                f"tried again until {run.verify_until:%Y-%m-%d %H:%M} (UTC)."
            )
            run.save(update_fields=["message"])
            return []
        run.verifying_scan, run.message = scans[0], ""
        run.save(update_fields=["verifying_scan", "message"])
    return scans


def _start(run: TrainingRun, version: ModelVersion) -> Scan:
    scan = start_scan(
        dataset=run.dataset,
        version=version,
        split=run.scan_split,
        trigger=Scan.Trigger.TRAINING,
        by=run.requested_by,
    )
    if run.is_control and not scan.for_record:
        # Counts and outcomes are compared; nobody is to review its errors.
        scan.for_record = True
        scan.save(update_fields=["for_record"])
    return scan


def _is_scanned(run: TrainingRun) -> bool:
    """Whether a scan of the parent over the split has finished, or is on its way."""
    scans = run.parent.scans.filter(dataset=run.dataset, split=run.scan_split, folds=0)
    return (scans.finished() | scans.active()).exists()
