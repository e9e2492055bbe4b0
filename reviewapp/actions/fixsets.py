"""Freezing what reviewers confirmed and relabelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone
from psycopg.errors import LockNotAvailable

from mining.fixset import fix_set_digest
from mining.guards import REASONS
from mining.recipe import RecipeSettings
from reviewapp.actions.recipes import start_recipe
from reviewapp.candidates import Picked, pick
from reviewapp.copying import copy_rows
from reviewapp.exceptions import Refused
from reviewapp.models import Dataset, FixSet
from reviewapp.models.events import record
from reviewapp.models.fixsets import row_of

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet

HELD_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Preview:
    """What a fix set under a filter would hold.

    Attributes:
        size: Items.
        by_confusion: (true label, predicted label, items), most frequent first.
        held: Guard's reason -> findings held aside.
        first_held: The first of them.
        over: What exceeds a cap of the recipe, in words.
        lost: The image or its label changed, or it went away, since the verdict; or the
            same confusion by a second model.
    """

    size: int
    by_verdict: dict[str, int]
    by_label: dict[str, int]
    by_cause: dict[str, int]
    by_split: dict[str, int]
    by_confusion: list[tuple[str, str, int]]
    held: dict[str, int]
    first_held: list[Picked]
    over: list[str]
    lost: int


def preview_fix_set(
    *,
    dataset: Dataset,
    findings: FindingQuerySet,
    include: Collection[str] = (),
    settings: RecipeSettings | None = None,
) -> Preview:
    """Count what freezing these findings would hold; changes nothing."""
    picked = pick(dataset, findings.for_dataset(dataset), include=include)
    items = [one for one in picked if not one.reason]
    aside = [one for one in picked if one.reason]
    held = Counter(one.reason for one in aside)
    pairs = Counter((one.true_label, one.predicted) for one in items)
    return Preview(
        size=len(items),
        by_verdict=_counts(item.verdict for item in items),
        by_label=_counts(item.label for item in items),
        by_cause=_counts(cause for item in items for cause in item.causes),
        by_split=_counts(item.split for item in items),
        by_confusion=[(*pair, n) for pair, n in pairs.most_common()],
        held={reason: held[reason] for reason in REASONS if held[reason]},
        first_held=aside[:HELD_SHOWN],
        over=_over(items, settings or RecipeSettings()),
        lost=findings.for_dataset(dataset).fixable().count() - len(picked),
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _over(items: Iterable[Picked], settings: RecipeSettings) -> list[str]:
    """Return the confusions and classes with more hard items than a recipe takes."""
    hard = [(one.label, one.predicted) for one in items if one.verdict != "relabel"]
    pairs = Counter(hard)
    classes: Counter[str] = Counter()
    for (label, _), n in pairs.items():
        classes[label] += min(n, settings.per_confusion)
    said = [
        (f"{label} taken for {predicted}", n, settings.per_confusion)
        for (label, predicted), n in pairs.most_common()
    ] + [(label, n, settings.per_class) for label, n in classes.most_common()]
    return [
        f"{name}: {n:,} hard samples, the recipe takes the hardest {cap:,}."
        for name, n, cap in said
        if n > cap
    ]


def freeze_fix_set(
    *,
    dataset: Dataset,
    name: str,
    findings: FindingQuerySet,
    by: User,
    filter: dict[str, Any] | None = None,
    include: Collection[str] = (),
    settings: RecipeSettings | None = None,
) -> FixSet:
    """Freeze the confirmed and relabelled ones of `findings`, with a digest.

    Its recipe is queued with it; the caller enqueues `make_recipe`. What changes while the
    set is being frozen marks it stale, as a later change does.

    Args:
        dataset: Whose findings.
        name: Of the set; no other set of the data set has it.
        findings: What to choose from.
        by: Who freezes it.
        filter: What chose the findings, for people to read.
        include: Guards' reasons that hold nothing aside.
        settings: Of its first recipe.

    Raises:
        Refused: The name is taken or empty, there is nothing to freeze, or the data set is
            being registered at this moment.
    """
    name = name.strip()
    if not name:
        raise Refused("Give the fix set a name.")
    try:
        with transaction.atomic():
            _keep_registrations_out(dataset)
            fix_set = FixSet.objects.create(
                dataset=dataset, name=name, filter=filter or {}, created_by=by
            )
            _fill(
                fix_set, pick(dataset, findings.for_dataset(dataset), include=include)
            )
            record(
                "fix set frozen", fix_set, dataset=dataset, actor=by, size=fix_set.size
            )
            start_recipe(fix_set=fix_set, settings=settings or RecipeSettings(), by=by)
            _mark_what_changed(fix_set)
    except IntegrityError:
        raise Refused(f"There is already a fix set named {name!r}.") from None
    return fix_set


def _fill(fix_set: FixSet, picked: Sequence[Picked]) -> None:
    """Store the items and what was held aside, then freeze the set."""
    items = [one for one in picked if not one.reason]
    aside = [one for one in picked if one.reason]
    if not items:
        held = f" {len(aside):,} were held aside." if aside else ""
        raise Refused(
            f"No confirmed or relabelled finding matches.{held} Review some first, or "
            "widen the filter."
        )
    rows = (_columns(fix_set, one) for one in items)
    copy_rows("reviewapp_fixitem", list(_COLUMNS), list(_COLUMNS.values()), rows)
    held_columns = _COLUMNS | {"reason": "text"}
    rows = ((*_columns(fix_set, one), one.reason) for one in aside)
    copy_rows(
        "reviewapp_helditem", list(held_columns), list(held_columns.values()), rows
    )
    fix_set.size = len(items)
    fix_set.digest = fix_set_digest(row_of(one) for one in items)
    fix_set.frozen_at = timezone.now()
    fix_set.save(update_fields=["size", "digest", "frozen_at"])


_COLUMNS: Final = {
    "fix_set_id": "int8",
    "finding_id": "int8",
    "sample_id": "int8",
    "sample_key": "text",
    "digest": "text",
    "split": "text",
    "original_label": "text",
    "true_label": "text",
    "label": "text",
    "predicted": "text",
    "verdict": "text",
    "causes": "varchar[]",
    "p_true": "float8",
    "confidence": "float8",
    "reviewer": "text",
    "reviewed_at": "timestamptz",
    "note": "text",
}


def _columns(fix_set: FixSet, one: Picked) -> tuple[object, ...]:
    ids = (fix_set.pk, one.finding, one.sample)
    return (*ids, *(getattr(one, name) for name in list(_COLUMNS)[3:]))


def _keep_registrations_out(dataset: Dataset) -> None:
    """Have a registration wait until the set is committed.

    It writes all labels before it touches a sample, so one label is lock enough. Without
    it, the two would wait for each other's samples, which each takes in another order.

    Raises:
        Refused: One is writing now.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(ONE_LABEL, [dataset.pk])
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        raise Refused(
            f"{dataset} is being registered. Nothing was frozen. Freeze when that is done."
        ) from error


def _mark_what_changed(fix_set: FixSet) -> None:
    """Mark a set stale of which something changed after it was chosen.

    The triggers that mark sets see only those that are committed. Every verdict, undo and
    relabel locks its sample before anything else (`settling.LOCK`). So with all samples
    locked, in the same order, each of them has either ended, and is seen here; or waits
    until the set is committed, and its trigger sees the set.
    """
    with connection.cursor() as cursor:
        cursor.execute(LOCK, [fix_set.pk])
        # A statement of its own: it sees what those have written that were waited for.
        cursor.execute(CHANGED, [fix_set.pk])


# Shared: two sets may be frozen at once.
ONE_LABEL: Final = """
SELECT id FROM reviewapp_label
 WHERE dataset_id = %s ORDER BY id LIMIT 1 FOR SHARE NOWAIT
"""

LOCK: Final = """
SELECT count(*) FROM (
  SELECT FROM reviewapp_sample
   WHERE id IN (SELECT sample_id FROM reviewapp_fixitem WHERE fix_set_id = %s)
   ORDER BY id FOR SHARE) locked
"""

CHANGED: Final = """
SELECT reviewapp_say_stale(
         array_agg(i.fix_set_id), array_agg(i.sample_key),
         array_agg(i.sample_key || ' changed while the set was being frozen'))
  FROM reviewapp_fixitem i
  JOIN reviewapp_sample s ON s.id = i.sample_id
  JOIN reviewapp_label l ON l.id = s.label_id
 WHERE i.fix_set_id = %s
   AND (s.removed_at IS NOT NULL OR s.digest <> i.digest OR l.name <> i.label
        OR i.reviewed_at IS DISTINCT FROM (
             SELECT r.created_at FROM reviewapp_review r
              WHERE r.finding_id = i.finding_id
                AND NOT EXISTS (SELECT FROM reviewapp_undo u WHERE u.review_id = r.id)
              ORDER BY r.id DESC LIMIT 1))
HAVING count(*) > 0
"""
