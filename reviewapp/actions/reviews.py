"""Verdicts, and taking them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from psycopg.types.json import Jsonb

from reviewapp.actions.claims import (
    claim,
    claim_one,
    forget_skips,
    hold,
    release,
    renew,
    skip,
)
from reviewapp.actions.settling import (
    check_free,
    lock_finding,
    lock_findings,
    move_findings,
    why_not,
)
from reviewapp.actions.undoing import undo, undo_batch
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Cause,
    Dataset,
    DismissReason,
    Finding,
    Label,
    Review,
    Sample,
    Verdict,
)
from reviewapp.rows import fetch

if TYPE_CHECKING:
    from reviewapp.models import User

__all__ = [
    "Decision",
    "check_decision",
    "check_free",
    "claim",
    "claim_one",
    "decide",
    "forget_skips",
    "given_before",
    "hold",
    "last_review",
    "last_reviews",
    "lock_finding",
    "lock_findings",
    "record_verdicts",
    "release",
    "renew",
    "skip",
    "undo",
    "undo_batch",
    "why_not",
]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer says of a finding, whoever carries it.

    Attributes:
        verdict: The verdict.
        version: Of the finding that the reviewer saw.
        new_label: The right label; for a relabel alone.
        reason: Of a dismissal, a `DismissReason`.
        causes: Why the model failed, `Cause` values.
        note: In the reviewer's words.
        key: The client's; the same one again is the same verdict, not a second one.
    """

    verdict: Verdict
    version: int
    new_label: Label | None = None
    reason: str = ""
    causes: Sequence[str] = ()
    note: str = ""
    key: UUID | None = None


def decide(
    *, finding: Finding, by: User, decision: Decision, batch: UUID | None = None
) -> Review:
    """Record a verdict on the version of the finding that the reviewer saw.

    A relabel corrects the sample's label at once; the source keeps the original. The
    same key again changes nothing and returns the first review.

    Args:
        finding: The finding.
        by: The reviewer.
        decision: What they say.
        batch: Shared by verdicts that are given, and undone, as one.

    Raises:
        FindingChanged: The finding is another version now; says what changed.
        FindingHeld: Another reviewer holds it.
        Refused: The verdict is incomplete or contradicts itself, or its key was used
            for another one.
    """
    check_decision(finding, decision)
    with transaction.atomic():
        locked = lock_finding(finding.pk)
        if given := given_before(finding=finding, by=by, decision=decision):
            return given
        check_free(locked, by, decision.version)
        return record_verdicts(
            findings=[locked], by=by, decision=decision, batch=batch
        )[0]


def check_decision(finding: Finding, decision: Decision) -> None:
    """Raise `Refused` when a verdict is incomplete or contradicts itself."""
    unknown = sorted(set(decision.causes) - set(Cause.values))
    if unknown:
        raise Refused(f"Unknown cause: {', '.join(unknown)}.")
    if decision.reason and decision.reason not in DismissReason.values:
        raise Refused(f"Unknown reason: {decision.reason}.")
    if decision.reason and decision.verdict is not Verdict.DISMISS:
        raise Refused("Only the verdict dismiss takes a reason.")
    if decision.verdict is Verdict.RELABEL:
        _check_new_label(finding, decision.new_label)
    elif decision.new_label:
        raise Refused("Only the verdict relabel takes a new label.")


def _check_new_label(finding: Finding, new_label: Label | None) -> None:
    if new_label is None:
        raise Refused("Choose the label that is right.")
    if new_label.dataset_id != finding.dataset_id or new_label.index is None:
        raise Refused(f"{new_label} is not a class of this data set.")
    if new_label.pk == finding.true_label_id:
        raise Refused(f"The label is {new_label} already. Confirm it instead.")


def given_before(*, finding: Finding, by: User, decision: Decision) -> Review | None:
    """Return the review that this decision's key has recorded already.

    Raises:
        Refused: The key was used for another finding or another verdict.
    """
    if decision.key is None:
        return None
    ids = [pk for (pk,) in fetch(GIVEN, [by.pk, decision.key])]
    if not ids:
        return None
    earlier = list(Review.objects.filter(pk__in=ids).order_by("id"))
    same = [review for review in earlier if review.finding_id == finding.pk]
    given = (decision.verdict, decision.new_label and decision.new_label.pk)
    if same and (same[0].verdict, same[0].new_label_id) == given:
        return same[0]
    raise Refused(
        "This verdict carries the key of another one that was recorded before. It "
        "was not recorded. Decide again."
    )


# As text: at every verdict, and nearly always there is none.
GIVEN = "SELECT id FROM reviewapp_review WHERE reviewer_id = %s AND key = %s"


def record_verdicts(
    *,
    findings: Sequence[Finding],
    by: User,
    decision: Decision,
    batch: UUID | None = None,
    keys: Mapping[int, UUID] = MappingProxyType({}),
) -> list[Review]:
    """Record one verdict on several findings, set-wise, inside a transaction.

    Args:
        findings: As `lock_findings` returns them, `why_not` has nothing against any;
            for a relabel one of each sample: it puts the sample's others aside.
        by: The reviewer.
        decision: What they say of each, passed by `check_decision`.
        batch: Shared by verdicts that are given, and undone, as one.
        keys: Finding id -> its own key, in place of the decision's.

    Returns:
        One review for each finding, in their order.
    """
    aside = _relabel(findings, decision.new_label) if decision.new_label else {}
    now = timezone.now()
    reviews = [
        Review(
            dataset_id=finding.dataset_id,
            finding=finding,
            finding_version=finding.version,
            reviewer=by,
            verdict=decision.verdict,
            label_before=finding.sample.label,
            superseded=aside.get(finding.sample_id, []),
            new_label=decision.new_label,
            state_before=finding.review_state,
            reason=decision.reason,
            causes=list(dict.fromkeys(decision.causes)),
            note=decision.note.strip(),
            key=keys.get(finding.pk, decision.key),
            batch=batch,
            created_at=now,
        )
        for finding in findings
    ]
    _insert(reviews)
    state = decision.verdict.review_state
    put_aside = {pk: Finding.Presence.SUPERSEDED for o in aside.values() for pk, _ in o}
    move_findings(findings, {finding.pk: state for finding in findings}, put_aside)
    fetch(LET_GO, {"ids": [f.pk for f in findings], "by": by.pk})
    return reviews


def _insert(reviews: Sequence[Review]) -> None:
    """Store reviews of one verdict, and give them their ids."""
    first = reviews[0]
    values = {
        "dataset": first.dataset_id,
        "by": first.reviewer_id,
        "verdict": first.verdict,
        "new_label": first.new_label_id,
        "causes": first.causes,
        "reason": first.reason,
        "note": first.note,
        "batch": first.batch,
        "now": first.created_at,
        "findings": [review.finding_id for review in reviews],
        "versions": [review.finding_version for review in reviews],
        "labels": [review.label_before_id for review in reviews],
        "states": [review.state_before for review in reviews],
        "superseded": [Jsonb(review.superseded) for review in reviews],
        "keys": [review.key for review in reviews],
    }
    ids = dict(fetch(INSERT, values))
    for review in reviews:
        review.pk = ids[review.finding_id]
        review._state.adding = False  # noqa: SLF001 - as Django's own inserts leave it


# As text: `bulk_create` takes three times as long for the one review of a verdict.
INSERT = """
INSERT INTO reviewapp_review (
       dataset_id, finding_id, finding_version, reviewer_id, verdict, label_before_id,
       new_label_id, state_before, causes, superseded, reason, note, key, batch,
       created_at)
SELECT %(dataset)s, n.finding, n.version, %(by)s, %(verdict)s, n.label,
       %(new_label)s::bigint, n.state, %(causes)s::text[], n.superseded, %(reason)s,
       %(note)s, n.key, %(batch)s::uuid, %(now)s
  FROM unnest(%(findings)s::bigint[], %(versions)s::int[], %(labels)s::bigint[],
              %(states)s::text[], %(superseded)s::jsonb[], %(keys)s::uuid[])
       WITH ORDINALITY
       AS n (finding, version, label, state, superseded, key, place)
 ORDER BY n.place
RETURNING finding_id, id
"""


# The finding is settled: nobody holds it, and this reviewer has not put it off.
LET_GO = """
WITH held AS (DELETE FROM reviewapp_claim WHERE finding_id = ANY(%(ids)s::bigint[]))
DELETE FROM reviewapp_skip
 WHERE finding_id = ANY(%(ids)s::bigint[]) AND reviewer_id = %(by)s
RETURNING finding_id
"""


def _relabel(findings: Sequence[Finding], label: Label) -> dict[int, list[list[Any]]]:
    """Correct the samples' label.

    Returns:
        Sample id -> [finding id, presence before] of what is to be put aside.
    """
    samples = [finding.sample_id for finding in findings]
    Sample.objects.filter(pk__in=samples).update(label=label)
    others = (
        Finding.objects.present()
        .filter(sample__in=samples)
        .exclude(pk__in=[finding.pk for finding in findings])
        .exclude(true_label=label)
    )
    aside: dict[int, list[list[Any]]] = {}
    for sample, pk, presence in others.values_list("sample_id", "pk", "presence"):
        aside.setdefault(sample, []).append([pk, presence])
    return aside


def last_review(*, dataset: Dataset, by: User) -> Review | None:
    """Return the reviewer's last standing verdict on a data set."""
    return Review.objects.for_dataset(dataset).by(by).standing().newest_first().first()


def last_reviews(*, dataset: Dataset, by: User, limit: int = 50) -> list[Review]:
    """Return the reviewer's last verdicts on a data set, undone ones too.

    Returns:
        With their names, the newest first.
    """
    rows = Review.objects.for_dataset(dataset).by(by).newest_first()
    return list(rows.with_names_apart()[:limit])
