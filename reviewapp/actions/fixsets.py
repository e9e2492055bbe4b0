"""Freezing what reviewers confirmed and relabelled, and exporting it."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from mining.exceptions import MiningError
from mining.fixset import FixRow, fix_set_digest, write_csv, write_jsonl, write_zip
from mining.sources import read_bytes, url_for
from reviewapp.actions.confusions import update_ledger
from reviewapp.actions.standings import note_exported
from reviewapp.exceptions import Refused, plain_message
from reviewapp.models import (
    Dataset,
    Export,
    Finding,
    FixItem,
    FixSet,
    RegisteredModel,
    Review,
)
from reviewapp.models.events import record
from reviewapp.storage import scratch_folder, store_file

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a fix set under a filter would hold."""

    size: int
    by_verdict: dict[str, int]
    by_label: dict[str, int]
    by_cause: dict[str, int]
    by_split: dict[str, int]
    lost: int  # the image or its label changed, or it went away, since the verdict


def preview_fix_set(*, findings: FindingQuerySet) -> Preview:
    """Count what freezing these findings would hold; changes nothing."""
    items = list(_items(findings))
    return Preview(
        size=len(items),
        by_verdict=dict(Counter(item.verdict for item in items).most_common()),
        by_label=dict(Counter(item.label for item in items).most_common()),
        by_cause=dict(Counter(c for i in items for c in i.causes).most_common()),
        by_split=dict(Counter(item.split for item in items).most_common()),
        lost=findings.fixable().count() - len(items),
    )


def freeze_fix_set(
    *,
    dataset: Dataset,
    name: str,
    findings: FindingQuerySet,
    by: User,
    filter: dict[str, Any] | None = None,
) -> FixSet:
    """Freeze the confirmed and relabelled ones of `findings`, with a digest.

    Raises:
        Refused: The name is taken or empty, or there is nothing to freeze.
    """
    name = name.strip()
    if not name:
        raise Refused("Give the fix set a name.")
    try:
        with transaction.atomic():
            fix_set = FixSet.objects.create(
                dataset=dataset, name=name, filter=filter or {}, created_by=by
            )
            items = list(_items(findings.for_dataset(dataset)))
            if not items:
                raise Refused(
                    "No confirmed or relabelled finding matches. Review some first, or "
                    "widen the filter."
                )
            for item in items:
                item.fix_set = fix_set
            FixItem.objects.bulk_create(items, batch_size=2000)
            fix_set.size = len(items)
            fix_set.digest = fix_set_digest(item.as_row() for item in items)
            fix_set.frozen_at = timezone.now()
            fix_set.save(update_fields=["size", "digest", "frozen_at"])
            record(
                "fix set frozen", fix_set, dataset=dataset, actor=by, size=fix_set.size
            )
    except IntegrityError:
        raise Refused(f"There is already a fix set named {name!r}.") from None
    return fix_set


def _items(findings: FindingQuerySet) -> Iterator[FixItem]:
    """Yield unsaved items, in (key, predicted) order, from the standing verdicts.

    A finding whose image or label changed, or whose image went away, since its verdict
    is left out, and so is the same confusion of the same sample by a second model.
    """
    reviews = {
        review.finding_id: review
        for review in Review.objects.standing()
        .filter(finding__in=findings.fixable())
        .select_related("reviewer", "new_label")
        .order_by("id")
    }
    rows = (
        findings.fixable()
        .filter(sample__removed_at__isnull=True)
        .with_names()
        .select_related("sample__original_label")
        .order_by("sample__key", "predicted_label__name", "true_label__name", "id")
    )
    last = None
    for finding in rows.iterator(chunk_size=2000):
        review = reviews.get(finding.pk)
        if review is None or not _still_holds(finding, review):
            continue
        identity = (
            finding.sample_id,
            finding.true_label_id,
            finding.predicted_label_id,
        )
        if identity != last:
            yield _item(finding, review)
        last = identity


def _still_holds(finding: Finding, review: Review) -> bool:
    """Whether the verdict is about the image and the label that are there now.

    Another model's finding of the same image may have been relabelled meanwhile; two
    answers for one image must not end up in one set.
    """
    right = review.new_label_id or finding.true_label_id
    return finding.sample.digest == finding.digest and finding.sample.label_id == right


def _item(finding: Finding, review: Review) -> FixItem:
    label = review.new_label or finding.true_label
    return FixItem(
        finding=finding,
        sample=finding.sample,
        sample_key=finding.sample.key,
        digest=finding.digest,
        split=finding.sample.split,
        original_label=finding.sample.original_label.name,
        true_label=finding.true_label.name,
        label=label.name,
        predicted=finding.predicted_label.name,
        verdict=review.verdict,
        causes=review.causes,
        p_true=finding.p_true,
        confidence=finding.confidence,
        reviewer=review.reviewer.username,
        reviewed_at=review.created_at,
        note=review.note,
    )


def request_export(*, fix_set: FixSet, format: str, by: User) -> Export:
    """Queue an export of a frozen set; the caller enqueues `run_export`.

    Raises:
        Refused: The set is not frozen, or the format is unknown.
    """
    if format not in Export.Format.values:
        raise Refused(f"Unknown format. Choose {', '.join(Export.Format.values)}.")
    if not fix_set.is_frozen:
        raise Refused("Only a frozen fix set can be exported.")
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


def requeue_silent_exports() -> list[int]:
    """Give exports of dead workers back and return the ids to enqueue again.

    Those that wait longer than a lease are among them: their message may be lost.
    """
    lost = timezone.now() - timedelta(seconds=settings.SHARD_LEASE_SECONDS)
    Export.objects.filter(state=Export.State.RUNNING, heartbeat_at__lt=lost).update(
        state=Export.State.QUEUED
    )
    waiting = Export.objects.filter(state=Export.State.QUEUED, created_at__lt=lost)
    return list(waiting.order_by("pk").values_list("pk", flat=True))


def run_export(*, export: Export) -> Export:
    """Write the file and store it; the same frozen set always gives the same bytes.

    Does nothing unless the export is queued.
    """
    claimed = Export.objects.filter(pk=export.pk, state=Export.State.QUEUED).update(
        state=Export.State.RUNNING, heartbeat_at=timezone.now(), done=0
    )
    export.refresh_from_db()
    if not claimed:
        return export
    try:
        with scratch_folder() as folder:
            path = folder / "export"
            with path.open("w+b") as file:
                _write(export, file)
            with path.open("rb") as file:
                export.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            export.size = path.stat().st_size
            name = f"exports/{export.fix_set_id}/{export.pk}.{export.format}"
            store_file(name, path)
        export.state, export.file = Export.State.DONE, name
        export.done = export.fix_set.size
    except Exception as error:
        logger.exception("%s failed", export)
        export.state, export.message = Export.State.FAILED, plain_message(error)
    export.finished_at = timezone.now()
    with transaction.atomic():
        export.save()
        if export.state == Export.State.DONE:
            _tell_ledger(export)
    return export


def _write(export: Export, file: BinaryIO) -> None:
    items = export.fix_set.items.order_by("sample_key", "predicted", "true_label")
    rows = (item.as_row() for item in items.iterator(chunk_size=2000))
    advance = _progress(export)
    if export.format == Export.Format.ZIP:
        write_zip(rows, file, _image_reader(export.fix_set), progress=advance)
        return
    write = write_csv if export.format == Export.Format.CSV else write_jsonl
    with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        write(_watched(rows, advance, export.fix_set.size), text)


def _progress(export: Export) -> Callable[[int, int], None]:
    def advance(done: int, total: int) -> None:
        if done % 200 == 0:
            Export.objects.filter(pk=export.pk).update(
                done=done, heartbeat_at=timezone.now()
            )

    return advance


def _watched(
    rows: Iterable[FixRow], advance: Callable[[int, int], None], total: int
) -> Iterator[FixRow]:
    """Yield the rows and tell how many there were so far."""
    for done, row in enumerate(rows, start=1):
        advance(done, total)
        yield row


def _image_reader(fix_set: FixSet) -> Callable[[FixRow], bytes]:
    root = fix_set.dataset.root

    def read(row: FixRow) -> bytes:
        try:
            return read_bytes(url_for(root, row.sample_key))
        except OSError as error:
            raise MiningError(
                f"{row.sample_key} cannot be read any more ({error}). The fix set is "
                "kept. Bring the image back, or export CSV or JSON lines instead."
            ) from error

    return read


def _tell_ledger(export: Export) -> None:
    """Say of the confusions in an exported set that their fix is on its way.

    A set claims them once: when one that had its chance is exported again, in another
    format say, it does not claim what came back since.
    """
    fix_set = export.fix_set
    others = fix_set.exports.filter(state=Export.State.DONE).exclude(pk=export.pk)
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
            exported_at=None if others.exists() else export.finished_at,
        )
