"""Exporting frozen fix sets as files."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import transaction

from reviewapp.actions.confusions import update_ledger
from reviewapp.actions.makings import Hold, make, requeue_silent
from reviewapp.actions.standings import note_exported
from reviewapp.exceptions import Refused
from reviewapp.exporting import write_export
from reviewapp.models import Export, Finding, FixSet, RegisteredModel
from reviewapp.models.events import record
from reviewapp.storage import scratch_folder, store_file

if TYPE_CHECKING:
    from reviewapp.models import User


def request_export(*, fix_set: FixSet, format: str, by: User) -> Export:
    """Queue an export of a frozen set; the caller enqueues `run_export`.

    Raises:
        Refused: The set is not frozen, the format is unknown, or this set has nothing to
            say in it.
    """
    if format not in Export.Format.values:
        raise Refused(f"Unknown format. Choose {', '.join(Export.Format.values)}.")
    if not fix_set.is_frozen:
        raise Refused("Only a frozen fix set can be exported.")
    _check_has_content(fix_set, Export.Format(format))
    with transaction.atomic():
        export = Export.objects.create(fix_set=fix_set, format=format, requested_by=by)
        record(
            "fix set exported",
            fix_set,
            dataset=fix_set.dataset,
            actor=by,
            format=format,
        )
    return export


def _check_has_content(fix_set: FixSet, format: Export.Format) -> None:
    manifest = fix_set.dataset.manifest.lower()
    if format == Export.Format.RECIPE and not fix_set.recipes.done().exists():
        raise Refused(
            "The fix set has no finished recipe yet. Wait for it or make one."
        )
    if format == Export.Format.PATCH and not manifest.endswith((".csv", ".jsonl")):
        kind = (
            "a Parquet file" if manifest else "no manifest: its folders are the labels"
        )
        raise Refused(
            f"The data set has {kind}; there is no text to patch. Export the corrected "
            "manifest instead."
        )
    if (
        format in (Export.Format.PATCH, Export.Format.MANIFEST)
        and not fix_set.items.corrected().exists()
    ):
        raise Refused("No label in this fix set differs from the data set's own.")


def requeue_silent_exports() -> list[int]:
    """Give exports of dead workers back and return the ids to enqueue again."""
    return requeue_silent(kind=Export)


def run_export(*, export: Export) -> Export:
    """Write the file and store it; the same frozen set always gives the same bytes.

    Does nothing unless the export is queued.
    """
    return make(making=export, outcome=partial(_written, export), then=_tell_ledger)


def _written(export: Export, hold: Hold) -> dict[str, Any]:
    """Return the columns of an export whose file is in the storage."""
    name = f"exports/{export.fix_set_id}/{export.pk}.{export.suffix}"
    with scratch_folder() as folder:
        path = folder / "export"
        with path.open("wb") as file:
            write_export(export, file, lambda done: hold.tell(done=done))
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        store_file(name, path)
    return {"file": name, "size": size, "sha256": sha256, "done": export.fix_set.size}


def _tell_ledger(export: Export) -> None:
    """Say of the confusions in an exported set that their fix is on its way."""
    if export.state != Export.State.DONE:
        return
    fix_set = export.fix_set
    others = fix_set.exports.filter(state=Export.State.DONE).exclude(pk=export.pk)
    claimed = others.exists() or fix_set.trained_versions.exists()
    claim_lines(fix_set=fix_set, at=None if claimed else export.finished_at)


def claim_lines(*, fix_set: FixSet, at: datetime | None) -> None:
    """Say of the confusions in a set that their fix is on its way.

    Call it in the transaction that ends an export of the set or a training with it.

    Args:
        fix_set: Frozen.
        at: When. None: the set had its chance before, and does not claim what came back
            since.
    """
    note_exported(fix_set)
    pairs_by_model: dict[int, set[tuple[int, int]]] = {}
    rows = Finding.objects.misclassified().filter(fixitem__fix_set=fix_set)
    for model, true, predicted in rows.values_list(
        "registered_model_id", "true_label_id", "predicted_label_id"
    ).distinct():
        pairs_by_model.setdefault(model, set()).add((true, predicted))
    for registered in RegisteredModel.objects.filter(pk__in=pairs_by_model):
        update_ledger(
            dataset=fix_set.dataset,
            model=registered,
            pairs=pairs_by_model[registered.pk],
            exported_at=at,
        )
