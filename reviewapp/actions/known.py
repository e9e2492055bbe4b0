"""Known answers: mixed in unseen, to see how often a reviewer is right."""

from __future__ import annotations

import hashlib
import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from reviewapp.actions.reviews import Decision, check_decision
from reviewapp.exceptions import FindingChanged, FindingHeld, Refused
from reviewapp.models import (
    Claim,
    Finding,
    KnownAnswer,
    KnownAttempt,
    Opinion,
    Review,
    Skip,
    Verdict,
)
from reviewapp.models.events import record
from reviewapp.models.people import role_on

if TYPE_CHECKING:
    from reviewapp.actions.queues import Queue
    from reviewapp.models import Dataset, User
    from reviewapp.models.findings import FindingQuerySet

DECIDED = (
    Finding.ReviewState.CONFIRMED,
    Finding.ReviewState.RELABELLED,
    Finding.ReviewState.DISMISSED,
)
MAX_GAP = 400  # verdicts between two known answers, however low the rate
CANDIDATES = 200  # known answers that one is drawn from


def known_answer_of(finding: Finding) -> KnownAnswer | None:
    """Return the known answer of a decided finding, if it still is its verdict."""
    if finding.review_state not in DECIDED:
        return None
    known = KnownAnswer.objects.filter(finding=finding).first()
    if known and Verdict(known.verdict).review_state == finding.review_state:
        return known
    return None


def add_known_answer(*, finding: Finding, by: User) -> KnownAnswer:
    """Mark a decided finding: its verdict is right for certain.

    From now on nobody decides it anew before the mark is taken off.

    Raises:
        Refused: It has no verdict that says something, or it is marked already.
    """
    with transaction.atomic():
        locked = Finding.objects.select_for_update().get(pk=finding.pk)
        verdict = Review.objects.standing().filter(finding=locked).newest_first()
        review = verdict.select_related("new_label").first()
        if review is None or locked.review_state not in DECIDED:
            raise Refused(
                "Only a finding that was confirmed, relabelled or dismissed has an "
                "answer that can be known. Decide it first."
            )
        known, is_new = KnownAnswer.objects.get_or_create(
            finding=locked,
            defaults={
                "dataset_id": locked.dataset_id,
                "verdict": review.verdict,
                "new_label": review.new_label,
                "added_by": by,
            },
        )
        if not is_new:
            raise Refused("The answer of this finding is known already.")
        record("known answer added", known, dataset=locked.dataset, actor=by)
    return known


def remove_known_answer(*, known: KnownAnswer, by: User) -> None:
    """Take the mark off; attempts at it go with it, and the finding can be decided."""
    with transaction.atomic():
        record("known answer removed", known, dataset=known.dataset, actor=by)
        # A reviewer may have it on the desk: their verdict must not become a review.
        Finding.objects.filter(pk=known.finding_id).update(version=F("version") + 1)
        Claim.objects.filter(finding=known.finding_id).delete()
        known.delete()


def attempt(*, known: KnownAnswer, by: User, decision: Decision) -> KnownAttempt:
    """Record what a reviewer says where the answer is known; nothing else changes.

    Raises:
        FindingChanged: The finding is another version now.
        FindingHeld: Another reviewer holds it.
        Refused: The verdict contradicts itself, is their second, or a lead, who knows
            the mark, wants to decide the finding anew.
    """
    finding = known.finding
    check_decision(finding, decision)
    with transaction.atomic():
        # Two verdicts of one person at the same moment take turns.
        if not KnownAnswer.objects.select_for_update().filter(pk=known.pk).first():
            raise FindingChanged(
                "The finding changed meanwhile. Your verdict was not recorded. Look at "
                "the finding as it is now."
            )
        earlier = known.attempts.filter(reviewer=by).first()
        if earlier:
            if decision.key and earlier.key == decision.key:
                return earlier
            raise Refused(
                "You gave your verdict on this finding already, and it stands. Undo it "
                "to give another one."
            )
        _check_handed_out(known, by, decision.version)
        tried = KnownAttempt.objects.create(
            known=known,
            reviewer=by,
            verdict=decision.verdict,
            new_label=decision.new_label,
            is_right=known.is_right(decision.verdict, decision.new_label),
            reason=decision.reason,
            causes=list(dict.fromkeys(decision.causes)),
            note=decision.note.strip(),
            key=decision.key,
        )
        Claim.objects.filter(finding=finding).delete()
        Skip.objects.filter(finding=finding, reviewer=by).delete()
    return tried


def _check_handed_out(known: KnownAnswer, by: User, version: int) -> None:
    claim = (
        Claim.objects.filter(finding=known.finding_id, expires_at__gt=timezone.now())
        .select_related("reviewer")
        .first()
    )
    if claim and claim.reviewer_id != by.pk:
        raise FindingHeld(
            f"{claim.reviewer} is looking at this finding until "
            f"{timezone.localtime(claim.expires_at):%H:%M}. Your verdict was not "
            "recorded."
        )
    role = role_on(by, known.dataset)
    if claim is None and role and role.leads:
        raise Refused(
            f"The answer of this finding is known ({known.verdict}). Your verdict was "
            "not recorded. To decide it anew, take the mark off on the finding's page."
        )
    if known.finding.version != version:
        raise FindingChanged(
            "The finding changed meanwhile. Your verdict was not recorded. Look at the "
            "finding as it is now."
        )


def is_blind(*, finding: Finding, by: User) -> bool:
    """Whether this person must see a finding as if nobody had decided it.

    Costs nothing for a finding without a verdict. Reads `finding.dataset`.
    """
    known = known_answer_of(finding)
    if known is None or not _is_unseen(known, by):
        return False
    role = role_on(by, finding.dataset)
    if role is None or not role.leads:
        return True
    claims = Claim.objects.filter(finding=finding, reviewer=by)
    return claims.filter(expires_at__gt=timezone.now()).exists()


def _is_unseen(known: KnownAnswer, by: User) -> bool:
    """Whether they neither know the answer by their own verdict nor tried it."""
    theirs = Review.objects.by(by).filter(finding=known.finding_id)
    return known.added_by_id != by.pk and not theirs.exists()


def as_new(finding: Finding) -> Finding:
    """Show a decided finding as one that waits; in memory, never to be saved."""
    finding.review_state = Finding.ReviewState.OPEN
    finding.presence = Finding.Presence.SEEN
    finding.reopened_because = ""
    finding.sample.label_id = finding.true_label_id
    return finding


def mix_in(*, queue: Queue, by: User, findings: list[Finding]) -> list[Finding]:
    """Put a finding whose answer is known between those that a reviewer holds.

    It is of the same queue, so that it cannot be told apart, comes at the data set's
    rate on average and after an unforeseeable number of verdicts, and each one comes
    once. Asking again gives the same. Without a rate this reads nothing.

    Args:
        queue: What the reviewer goes through.
        by: The reviewer.
        findings: What they hold of it, in order.

    Returns:
        The findings, among them at most one more, to be shown as new.
    """
    rate = queue.dataset.known_rate
    if not rate or not findings:
        return findings
    last = KnownAttempt.objects.for_dataset(queue.dataset).by(by).newest_first().first()
    seed = f"{by.pk} {last.pk if last else 0}"
    gap = _gap(rate, _drawn(seed))
    since = _given_since(queue.dataset, by, last.created_at if last else None, gap)
    place = max(0, gap - since)
    if place >= len(findings):
        return findings
    known = _draw(queue.findings, by, seed)
    if known is None or not _hold(known.pk, by):
        return findings
    return [*findings[:place], as_new(known), *findings[place:]]


def _hold(finding_id: int, by: User) -> bool:
    """Hold a decided finding if nobody else does; return whether it is held."""
    expires_at = timezone.now() + timedelta(seconds=settings.CLAIM_SECONDS)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO reviewapp_claim AS c (finding_id, reviewer_id, expires_at)
            VALUES (%s, %s, %s)
            ON CONFLICT (finding_id) DO UPDATE
               SET reviewer_id = excluded.reviewer_id, expires_at = excluded.expires_at
             WHERE c.reviewer_id = excluded.reviewer_id OR c.expires_at <= now()
            """,
            [finding_id, by.pk, expires_at],
        )
        return bool(cursor.rowcount)


def _drawn(seed: str) -> float:
    """Return a number from 0 to below 1 that nobody foresees and that stays."""
    digest = hashlib.blake2b(seed.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _gap(rate: float, drawn: float) -> int:
    """Return how many verdicts come before the next known answer: geometric."""
    return min(MAX_GAP, int(math.log(1 - drawn) / math.log(1 - rate)))


def _given_since(
    dataset: Dataset, by: User, moment: datetime | None, enough: int
) -> int:
    """Count a reviewer's verdicts on a data set after a moment, up to `enough`."""
    reviews = Review.objects.for_dataset(dataset).by(by).newest_first()
    opinions = Opinion.objects.for_dataset(dataset).by(by).newest_first()
    sources = (reviews, opinions.exclude(review__reviewer=by))
    times = [
        given
        for source in sources
        for given in source.values_list("created_at", flat=True)[:enough]
    ]
    return min(enough, sum(moment is None or given > moment for given in times))


def _draw(findings: FindingQuerySet, by: User, seed: str) -> Finding | None:
    """Return one finding of a queue whose answer this reviewer has not given yet."""
    theirs = Review.objects.by(by).filter(finding=OuterRef("pk"))
    tried = KnownAttempt.objects.by(by).filter(known__finding=OuterRef("pk"))
    candidates = (
        findings.filter(known_answer__isnull=False, review_state__in=DECIDED)
        .exclude(known_answer__added_by=by)
        .exclude(Exists(theirs))
        .exclude(Exists(tried))
        .not_held_by_others(by)
        .not_skipped_by(by)
        .with_names()
        .select_related("known_answer")
        .order_by("-id")[:CANDIDATES]
    )
    fitting = [
        finding
        for finding in candidates
        if Verdict(finding.known_answer.verdict).review_state == finding.review_state
    ]
    held = set(
        Claim.objects.filter(reviewer=by, finding__in=fitting).values_list(
            "finding_id", flat=True
        )
    )
    # The one that is held stays; else one by lot.
    return min(
        fitting,
        key=lambda one: (one.pk not in held, _drawn(f"{seed} {one.pk}")),
        default=None,
    )
