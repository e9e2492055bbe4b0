"""Giving a verdict: at once, blind beside others, or where the answer is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.db import transaction

from reviewapp.actions.confusions import tell_ledger
from reviewapp.actions.given import Kind, last_standing
from reviewapp.actions.known import DECIDED, as_new, attempt, known_answer_of
from reviewapp.actions.reviews import (
    Decision,
    check_decision,
    check_free,
    decide,
    lock_finding,
    undo,
)
from reviewapp.actions.teams import leads_of, may_settle
from reviewapp.exceptions import FindingChanged, NotAllowed, Refused
from reviewapp.models import (
    Claim,
    Dataset,
    Finding,
    KnownAttempt,
    Opinion,
    Review,
    Skip,
    Verdict,
)
from reviewapp.models.people import role_on
from reviewapp.rows import fetch

if TYPE_CHECKING:
    from reviewapp.models import User

# The same words for every kind: a known answer must not be told apart.
SAID = {
    Verdict.CONFIRM: "Confirmed.",
    Verdict.RELABEL: "Relabelled.",
    Verdict.DISMISS: "Dismissed.",
    Verdict.FLAG: "Flagged for a second opinion.",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What became of a verdict.

    Attributes:
        kind: What it was recorded as.
        pk: The id of that; `take_back` takes both.
        review: The review, where there is one: an opinion has it when it settled the
            finding.
        said: What to tell the reviewer.
    """

    kind: Kind
    pk: int
    review: Review | None
    said: str


def is_under_overlap(finding: Finding) -> bool:
    """Whether several people judge a finding, blind. Reads `finding.dataset`.

    The share is drawn by the finding's id, so it stays drawn; a larger share adds to
    a smaller one.
    """
    dataset = finding.dataset
    if dataset.overlap < 2:
        return False
    drawn = hashlib.blake2b(str(finding.pk).encode(), digest_size=8).digest()
    return int.from_bytes(drawn) / 2**64 < dataset.overlap_share


def is_plain(finding: Finding) -> bool:
    """Whether a verdict on a finding is a review at once. Reads `finding.dataset`."""
    return finding.review_state == Finding.ReviewState.OPEN and not is_under_overlap(
        finding
    )


def give_verdict(*, finding: Finding, by: User, decision: Decision) -> Given:
    """Record what a reviewer says of a finding, as what it counts.

    A finding whose answer is known takes it as an attempt; one under blind overlap as
    an opinion, and the last opinion settles it or makes it disputed; any other as a
    review. The same key again changes nothing and gives the first answer.

    Raises:
        FindingChanged: The finding is another version now, or it is disputed.
        FindingHeld: Another reviewer holds it.
        NotAllowed: It is disputed, or they flagged it themselves.
        Refused: The verdict is incomplete, contradicts itself, or is their second.
    """
    # Whatever became of the finding since, or of the rules: a retry is no new verdict.
    earlier = _earlier(finding, by, decision)
    if earlier:
        return _as_given(earlier)
    if finding.review_state in DECIDED:
        known = known_answer_of(finding)
        if known:
            tried = attempt(known=known, by=by, decision=decision)
            return Given("attempt", tried.pk, None, SAID[decision.verdict])
    elif finding.review_state != Finding.ReviewState.OPEN:
        return _settle_by_another(finding, by, decision)
    # A flag asks for somebody else at once: there is nothing for others to agree with.
    elif decision.verdict is not Verdict.FLAG and is_under_overlap(finding):
        return _as_given(_add_opinion(finding, by, decision))
    return _decided(decide(finding=finding, by=by, decision=decision))


def _decided(review: Review) -> Given:
    return Given("review", review.pk, review, SAID[Verdict(review.verdict)])


def _as_given(opinion: Opinion) -> Given:
    said = SAID[Verdict(opinion.verdict)]
    return Given("opinion", opinion.pk, opinion.review, said)


def _earlier(finding: Finding, by: User, decision: Decision) -> Opinion | None:
    """Return the opinion that the same key gave before."""
    if decision.key is None:
        return None
    ids = fetch(EARLIER, [by.pk, decision.key])
    found = Opinion.objects.filter(pk=ids[0][0]).first() if ids else None
    wanted = (decision.verdict, decision.new_label and decision.new_label.pk)
    if found and (found.finding_id, found.said) != (finding.pk, wanted):
        raise Refused(
            f"This key has carried another verdict ({found.verdict}) already. That one "
            "stands; send this one with a key of its own."
        )
    return found


# As text: at every verdict, and nearly always there is none.
EARLIER = "SELECT id FROM reviewapp_opinion WHERE reviewer_id = %s AND key = %s"


def _add_opinion(finding: Finding, by: User, decision: Decision) -> Opinion:
    check_decision(finding, decision)
    with transaction.atomic():
        # The lock lets the last two opinions take turns: only one is the last.
        locked = lock_finding(finding.pk)
        earlier = _earlier(finding, by, decision)
        if earlier:
            return earlier
        check_free(locked, by, decision.version)
        if locked.review_state == Finding.ReviewState.DISPUTED:
            raise FindingChanged(
                "Enough people have judged this finding meanwhile; a lead decides now. "
                "Your verdict was not recorded."
            )
        opinions = list(Opinion.objects.valid_for(locked))
        if any(opinion.reviewer_id == by.pk for opinion in opinions):
            raise Refused(
                "You gave your verdict on this finding already, and it stands. Undo it "
                "to give another one."
            )
        mine = Opinion.objects.create(
            finding=locked,
            finding_version=locked.version,
            reviewer=by,
            verdict=decision.verdict,
            new_label=decision.new_label,
            reason=decision.reason,
            causes=list(dict.fromkeys(decision.causes)),
            note=decision.note.strip(),
            key=decision.key,
        )
        Claim.objects.filter(finding=locked).delete()
        Skip.objects.filter(finding=locked, reviewer=by).delete()
        opinions.append(mine)
        if len(opinions) >= locked.dataset.overlap:
            mine.review = _settle(locked, by, decision, opinions)
    return mine


def _settle(
    finding: Finding, by: User, decision: Decision, opinions: Sequence[Opinion]
) -> Review | None:
    """Make opinions that agree a review in the last one's name; others a dispute."""
    if len({opinion.said for opinion in opinions}) > 1:
        _turn(finding, Finding.ReviewState.DISPUTED)
        return None
    joined = replace(
        decision,
        causes=[cause for opinion in opinions for cause in opinion.causes],
        note="\n".join(opinion.note for opinion in opinions if opinion.note),
        reason=next((o.reason for o in reversed(opinions) if o.reason), ""),
    )
    review = decide(finding=finding, by=by, decision=joined)
    Opinion.objects.filter(pk__in=[o.pk for o in opinions]).update(review=review)
    return review


def _settle_by_another(finding: Finding, by: User, decision: Decision) -> Given:
    """Decide what was flagged or is disputed."""
    disputed = finding.review_state == Finding.ReviewState.DISPUTED
    with transaction.atomic():
        retried = (
            Review.objects.by(by).filter(finding=finding, key=decision.key).first()
            if decision.key
            else None
        )
        if retried is None:
            _check_may_settle(finding, by)
        review = decide(finding=finding, by=by, decision=decision)
        if disputed and retried is None:
            finding.opinions.last_round().update(review=review)
    return _decided(review)


def _check_may_settle(finding: Finding, by: User) -> None:
    role = role_on(by, finding.dataset)
    if finding.review_state == Finding.ReviewState.DISPUTED:
        if role is None or not role.leads:
            raise NotAllowed(
                "The reviewers of this finding do not agree: a lead decides. Your "
                "verdict was not recorded."
            )
        voices = finding.opinions.last_round().values_list("reviewer", flat=True)
        if not may_settle(by.pk, set(voices), leads_of(finding.dataset)):
            raise NotAllowed(
                "You gave one of the opinions that do not agree: another lead decides. "
                "Your verdict was not recorded."
            )
        return
    flags = Review.objects.standing().by(by).filter(finding=finding)
    if flags.filter(verdict=Verdict.FLAG).exists():
        raise NotAllowed(
            "You flagged this finding for somebody else's opinion. Your verdict was not "
            "recorded; undo your flag to decide yourself."
        )


def take_back_last(*, dataset: Dataset, by: User) -> Finding:
    """Take a person's last standing verdict on a data set back.

    Raises:
        Refused: There is none, or it counts already together with others'.
        FindingChanged: The finding got another verdict since.
    """
    row = last_standing(dataset=dataset, by=by)
    if row is None:
        raise Refused(f"You have no verdict on {dataset} that could be undone.")
    return take_back(kind=row.kind, pk=row.pk, by=by)


def take_back(*, kind: Kind, pk: int, by: User) -> Finding:
    """Take one of a person's own verdicts back, whatever it was recorded as.

    Returns:
        The finding as it is to be shown: nothing tells that its answer is known.

    Raises:
        NotAllowed: It is somebody else's, or there is none.
        Refused: It was undone already, or counts together with others'.
        FindingChanged: The finding got another verdict, or the label changed, since.
    """
    if kind == "review":
        review = Review.objects.by(by).filter(pk=pk).first()
        if review:
            return undo(review=review, by=by)
    elif kind == "opinion":
        opinion = Opinion.objects.by(by).filter(pk=pk).first()
        if opinion:
            return _withdraw(opinion, by)
    else:
        tried = KnownAttempt.objects.by(by).with_names().filter(pk=pk).first()
        if tried:
            tried.delete()
            return as_new(tried.known.finding)
    raise NotAllowed("Only the reviewer who gave a verdict can undo it.")


def _withdraw(opinion: Opinion, by: User) -> Finding:
    with transaction.atomic():
        finding = lock_finding(opinion.finding_id)
        # What settled it, or another undo, may have come between the read and the lock.
        now = Opinion.objects.filter(pk=opinion.pk).select_related("review").first()
        if now is None:
            raise Refused("This verdict was undone already.")
        opinion = now
        if opinion.review and opinion.review.reviewer_id == by.pk:
            return undo(review=opinion.review, by=by)
        if opinion.review:
            raise Refused(
                f"Your verdict counts together with others' already: the finding is "
                f"{finding.get_review_state_display()}. Ask a lead to look again."
            )
        if opinion.finding_version != finding.version:
            raise FindingChanged(
                "The finding changed since, so your verdict counts no more. There is "
                "nothing to undo."
            )
        opinion.delete()
        if finding.review_state == Finding.ReviewState.DISPUTED:
            _turn(finding, Finding.ReviewState.OPEN)
    return finding


def _turn(finding: Finding, state: Finding.ReviewState) -> None:
    """Make a finding disputed, or open again.

    The version stays: the opinions so far are opinions on it.
    """
    finding.review_state = state
    finding.save(update_fields=["review_state"])
    tell_ledger(
        dataset=finding.dataset,
        pairs=[
            (
                finding.registered_model_id,
                finding.true_label_id,
                finding.predicted_label_id,
            )
        ],
        models={finding.registered_model_id: finding.registered_model},
    )
