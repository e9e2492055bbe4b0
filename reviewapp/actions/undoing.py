"""Taking verdicts back, one or a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connection, transaction

from reviewapp.actions.settling import lock_findings, move_findings
from reviewapp.exceptions import FindingChanged, HardmineError, NotAllowed, Refused
from reviewapp.models import Finding, Opinion, Review, Sample, Undo
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import User


@dataclass(frozen=True, slots=True)
class Undone:
    """What came of taking a batch back.

    Attributes:
        findings: As they are now; open again, as a rule.
        refused: (finding id, why) of the verdicts that stand.
    """

    findings: list[Finding]
    refused: list[tuple[int, str]]


def undo(*, review: Review, by: User) -> Finding:
    """Take a verdict back; the finding and the label are as they were before it.

    A frozen fix set that holds the verdict is marked stale.

    Raises:
        NotAllowed: It is somebody else's verdict.
        FindingChanged: The finding got another verdict, or the label was changed, since.
        Refused: It was undone already.
    """
    if review.reviewer_id != by.pk:
        raise NotAllowed("Only the reviewer who gave a verdict can undo it.")
    with transaction.atomic():
        locked = lock_findings([review.finding_id])
        if refusal := _why_not(review, locked, _standing([review])):
            raise refusal
        _take_back([review], locked, by)
    return locked[review.finding_id]


def undo_batch(*, batch: UUID, by: User) -> Undone:
    """Take back the verdicts that were given as one; what cannot be undone stands.

    Raises:
        Refused: The reviewer has no standing verdict of that batch.
    """
    with transaction.atomic():
        rows = Review.objects.by(by).filter(batch=batch).standing().order_by("id")
        reviews = list(rows.select_related("new_label"))
        if not reviews:
            raise Refused("These verdicts were undone already.")
        locked = lock_findings([review.finding_id for review in reviews])
        standing = _standing(reviews)
        refusals = {
            review.finding_id: str(why)
            for review in reviews
            if (why := _why_not(review, locked, standing))
        }
        free = [review for review in reviews if review.finding_id not in refusals]
        if free:
            _take_back(free, locked, by)
    return Undone(
        findings=[locked[review.finding_id] for review in free],
        refused=list(refusals.items()),
    )


def _standing(reviews: Sequence[Review]) -> dict[int, int]:
    """Return finding id -> id of its last standing review."""
    last = Review.objects.standing().last_of([one.finding_id for one in reviews])
    return {finding_id: one.pk for finding_id, one in last.items()}


def _why_not(
    review: Review, locked: dict[int, Finding], standing: dict[int, int]
) -> HardmineError | None:
    """Return why a verdict cannot be taken back; None: it can."""
    finding = locked.get(review.finding_id)
    last = standing.get(review.finding_id, 0)
    if finding is None:
        return FindingChanged("The finding was removed since.")
    if last > review.pk:
        return FindingChanged("The finding got another verdict since. Undo that first.")
    if last < review.pk:
        return Refused("This verdict was undone already.")
    if review.new_label_id and finding.sample.label_id != review.new_label_id:
        return FindingChanged(
            f"The label was changed to {finding.sample.label} since. Undo that first."
        )
    return None


def _take_back(reviews: Sequence[Review], locked: dict[int, Finding], by: User) -> None:
    """Undo reviews of locked findings, of one data set, set-wise."""
    findings = [locked[review.finding_id] for review in reviews]
    dataset = findings[0].dataset
    # First: a trigger would say it of the labels, without a name.
    _mark_stale(reviews, by)
    back = _restore_labels(reviews, findings)
    Undo.objects.bulk_create(Undo(review=review, by=by) for review in reviews)
    states = {review.finding_id: review.state_before for review in reviews}
    move_findings(findings, states, back)
    # Not only while there is an overlap: it may have been lowered since.
    settled = Opinion.objects.filter(review__in=reviews).values_list(
        "review", flat=True
    )
    with_opinions = set(settled)
    for review in (r for r in reviews if r.pk in with_opinions):
        version = locked[review.finding_id].version
        Opinion.objects.reopen(review=review, version=version)
    if len(reviews) == 1:
        record("verdict undone", reviews[0], dataset=dataset, actor=by)
    else:
        record("verdicts undone", reviews[0], dataset=dataset, actor=by, n=len(reviews))


def _restore_labels(
    reviews: Sequence[Review], findings: Sequence[Finding]
) -> dict[int, str]:
    """Give relabelled samples their label back.

    Returns:
        Finding id -> presence, of what the relabels put aside.
    """
    samples: dict[int, list[int]] = {}
    aside: dict[int, str] = {}
    for review, finding in zip(reviews, findings, strict=True):
        if review.new_label_id:
            samples.setdefault(review.label_before_id, []).append(finding.sample_id)
            finding.sample.label_id = review.label_before_id
            aside |= {pk: str(presence) for pk, presence in review.superseded}
    for label, ids in samples.items():
        Sample.objects.filter(pk__in=ids).update(label=label)
    if not aside:
        return {}
    # What a scan or a registration has settled since stays as they left it.
    superseded = Finding.objects.filter(
        pk__in=aside, presence=Finding.Presence.SUPERSEDED
    )
    return {pk: aside[pk] for pk in superseded.values_list("pk", flat=True)}


def _mark_stale(reviews: Sequence[Review], by: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            STALE,
            {
                "findings": [review.finding_id for review in reviews],
                "times": [review.created_at for review in reviews],
                "by": str(by),
            },
        )


# An item is the verdict's when it was made from it: the same finding at the same time.
STALE = """
UPDATE reviewapp_fixset s SET stale_because = trim(leading chr(10) FROM
       s.stale_because || chr(10) || to_char(now(), 'YYYY-MM-DD HH24:MI') || ' '
       || %(by)s || ' took back ' || held.what)
  FROM (SELECT i.fix_set_id, string_agg(
                 'the verdict ' || i.verdict || ' on ' || i.sample_key, ', '
                 ORDER BY i.sample_key) AS what
          FROM unnest(%(findings)s::bigint[], %(times)s::timestamptz[])
               AS taken (finding_id, reviewed_at)
          JOIN reviewapp_fixitem i USING (finding_id, reviewed_at)
         GROUP BY i.fix_set_id) held
 WHERE s.id = held.fix_set_id AND s.frozen_at IS NOT NULL
"""
