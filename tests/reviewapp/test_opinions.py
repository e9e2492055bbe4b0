"""Blind overlap, second opinions, and taking verdicts back."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.db import connection, transaction

from reviewapp.actions.given import last_given, last_standing
from reviewapp.actions.opinions import (
    SAID,
    give_verdict,
    is_plain,
    is_under_overlap,
    take_back,
)
from reviewapp.actions.queues import not_judged_by
from reviewapp.actions.reviews import Decision, claim, lock_finding
from reviewapp.exceptions import FindingChanged, FindingHeld, NotAllowed, Refused
from reviewapp.models import (
    Cause,
    Claim,
    DismissReason,
    Finding,
    Opinion,
    Review,
    Role,
    Verdict,
)
from tests import factories
from tests.reviewing import queue_of

State = Finding.ReviewState


KEY = UUID(int=7)


@pytest.fixture
def bob(dataset):
    user = factories.UserFactory(username="bob")
    factories.MembershipFactory(user=user, dataset=dataset, role=Role.REVIEWER)
    return user


def overlap(dataset, people: int, share: float = 1.0) -> None:
    dataset.overlap, dataset.overlap_share = people, share
    dataset.save()


def fresh(finding: Finding) -> Finding:
    return Finding.objects.select_related("dataset", "sample").get(pk=finding.pk)


def give(finding, by, verdict=Verdict.CONFIRM, version=0, **fields):
    decision = Decision(verdict, version, **fields)
    return give_verdict(finding=fresh(finding), by=by, decision=decision)


def test_without_overlap_a_verdict_is_a_review(world, rita):
    given = give(world.findings[0], rita, causes=[Cause.BLUR], key=KEY)
    assert given.kind == "review"
    assert given.review.causes == ["blur"]
    assert given.said == "Confirmed."
    assert give(world.findings[0], rita, key=KEY).review == given.review
    assert Review.objects.count() == 1


def test_two_who_agree_settle_a_finding(world, rita, bob):
    overlap(world.dataset, 2)
    finding = world.findings[0]
    first = give(finding, rita, causes=[Cause.BLUR], note="soft")
    assert (first.kind, first.review) == ("opinion", None)
    assert fresh(finding).review_state == State.OPEN
    assert fresh(finding).version == 0
    last = give(finding, bob, causes=[Cause.POSE, Cause.BLUR], note="turned")
    assert fresh(finding).review_state == State.CONFIRMED
    assert last.review.reviewer == bob
    assert last.review.causes == ["blur", "pose"]
    assert last.review.note == "soft\nturned"
    assert set(last.review.opinions.values_list("reviewer__username", flat=True)) == {
        "rita",
        "bob",
    }
    assert first.said == last.said


def test_agreement_on_a_relabel_needs_the_same_label(world, rita, bob):
    overlap(world.dataset, 2)
    one, other = world.findings[:2]
    for finding, by, label in ((one, rita, 1), (one, bob, 1), (other, rita, 1)):
        give(finding, by, Verdict.RELABEL, new_label=world.labels[label])
    give(other, bob, Verdict.RELABEL, new_label=world.labels[2])
    assert fresh(one).review_state == State.RELABELLED
    assert fresh(one).sample.label == world.labels[1]
    assert fresh(other).review_state == State.DISPUTED
    assert fresh(other).sample.label == world.labels[0]


def test_a_dismissal_keeps_a_reason(world, rita, bob):
    overlap(world.dataset, 2)
    give(world.findings[0], rita, Verdict.DISMISS, reason=DismissReason.DUPLICATE)
    given = give(world.findings[0], bob, Verdict.DISMISS)
    assert given.review.reason == DismissReason.DUPLICATE


def test_those_who_disagree_leave_it_to_a_lead(world, rita, bob, lena):
    overlap(world.dataset, 2)
    finding = world.findings[0]
    give(finding, rita)
    give(finding, bob, Verdict.DISMISS)
    assert fresh(finding).review_state == State.DISPUTED
    assert not Review.objects.exists()
    with pytest.raises(NotAllowed, match="a lead decides"):
        give(finding, rita)
    given = give(finding, lena, Verdict.DISMISS)
    assert given.kind == "review"
    assert given.review.opinions.count() == 2
    # And taken back it is a dispute again, with both opinions.
    take_back(kind="review", pk=given.pk, by=lena)
    assert fresh(finding).review_state == State.DISPUTED
    assert Opinion.objects.valid_for(fresh(finding)).count() == 2
    assert not Opinion.objects.filter(review__isnull=False).exists()


def test_a_retry_of_the_last_opinion_of_a_dispute_is_answered_as_before(
    world, rita, bob
):
    overlap(world.dataset, 2)
    give(world.findings[0], rita)
    first = give(world.findings[0], bob, Verdict.DISMISS, key=KEY)
    again = give(world.findings[0], bob, Verdict.DISMISS, key=KEY)
    assert again == first
    assert Opinion.objects.count() == 2


def test_a_retry_of_an_opinion_is_one_opinion(world, rita, bob):
    overlap(world.dataset, 3)
    first = give(world.findings[0], rita, key=KEY)
    assert give(world.findings[0], rita, key=KEY) == first
    assert Opinion.objects.count() == 1
    with pytest.raises(Refused, match="another verdict"):
        give(world.findings[0], rita, Verdict.DISMISS, key=KEY)
    with pytest.raises(Refused, match="another verdict"):
        give(world.findings[1], rita, key=KEY)


def test_a_retry_after_others_settled_it_is_the_opinion_still(world, rita, bob):
    overlap(world.dataset, 2)
    one = give(world.findings[0], rita, key=KEY)
    give(world.findings[0], bob)
    assert give(world.findings[0], rita, key=KEY).pk == one.pk
    assert Review.objects.count() == 1


def test_a_retry_after_the_overlap_is_gone_is_the_opinion_still(world, rita):
    overlap(world.dataset, 2)
    one = give(world.findings[0], rita, key=KEY)
    overlap(world.dataset, 1)
    again = give(world.findings[0], rita, key=KEY)
    assert (again.kind, again.pk) == ("opinion", one.pk)
    assert not Review.objects.exists()


def test_a_flag_is_passed_on_at_once_under_overlap_too(world, rita, bob):
    overlap(world.dataset, 2)
    given = give(world.findings[0], rita, Verdict.FLAG, note="two animals?")
    assert given.kind == "review"
    assert fresh(world.findings[0]).review_state == State.FLAGGED
    assert last_given(dataset=world.dataset, by=rita)[0].note == "two animals?"


def test_the_undo_of_a_lead_reopens_the_dispute_although_the_overlap_is_gone(
    world, rita, bob, lena
):
    overlap(world.dataset, 2)
    give(world.findings[0], rita)
    give(world.findings[0], bob, Verdict.DISMISS)
    settled = give(world.findings[0], lena)
    overlap(world.dataset, 1)
    take_back(kind="review", pk=settled.pk, by=lena)
    finding = fresh(world.findings[0])
    assert finding.review_state == State.DISPUTED
    assert Opinion.objects.valid_for(finding).filter(review=None).count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_undos_of_an_opinion_at_the_same_moment_are_one(world, rita):
    overlap(world.dataset, 2)
    given = give(world.findings[0], rita)

    def take(_: int) -> str:
        try:
            take_back(kind="opinion", pk=given.pk, by=rita)
        except (Refused, NotAllowed) as error:
            return str(error)
        finally:
            connection.close()
        return "undone"

    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic():
            lock_finding(world.findings[0].pk)
            both = [pool.submit(take, n) for n in range(2)]
            time.sleep(0.5)  # both have read it and wait
        said = sorted(one.result() for one in both)
    assert said == ["This verdict was undone already.", "undone"]


def test_the_last_opinion_repeated_gives_the_review(world, rita, bob):
    overlap(world.dataset, 2)
    give(world.findings[0], rita)
    first = give(world.findings[0], bob, key=KEY)
    again = give(world.findings[0], bob, key=KEY)
    assert again.review == first.review
    assert Review.objects.count() == 1


def test_nobody_gives_two_opinions(world, rita):
    overlap(world.dataset, 2)
    give(world.findings[0], rita)
    with pytest.raises(Refused, match="it stands"):
        give(world.findings[0], rita, Verdict.DISMISS)


def test_nobody_is_handed_a_finding_twice(world, rita, bob):
    overlap(world.dataset, 2)
    queue = queue_of(world.dataset)
    first = claim(queue=queue, by=rita)[0]
    give(first, rita)
    assert first not in claim(queue=queue, by=rita)
    assert first in claim(queue=queue, by=bob, limit=3)
    waiting = Finding.objects.for_dataset(world.dataset).waiting()
    assert first not in not_judged_by(waiting, world.dataset, rita)


def test_an_opinion_frees_the_finding_for_the_next(world, rita, bob):
    overlap(world.dataset, 2)
    held = claim(queue=queue_of(world.dataset), by=rita, limit=1)[0]
    with pytest.raises(FindingHeld, match="rita is looking at"):
        give(held, bob)
    give(held, rita)
    assert not Claim.objects.filter(finding=held).exists()
    assert give(held, bob).review is not None


def test_a_change_of_the_finding_voids_opinions(world, rita, bob):
    overlap(world.dataset, 2)
    finding = world.findings[0]
    given = give(finding, rita)
    Finding.objects.filter(pk=finding.pk).update(version=1)
    assert give(finding, bob, version=1).review is None
    with pytest.raises(FindingChanged, match="counts no more"):
        take_back(kind="opinion", pk=given.pk, by=rita)
    assert give(finding, rita, version=1).review is not None


def test_an_opinion_on_an_older_version_is_refused(world, rita):
    overlap(world.dataset, 2)
    Finding.objects.filter(pk=world.findings[0].pk).update(version=1)
    with pytest.raises(FindingChanged, match="was not recorded"):
        give(world.findings[0], rita, version=0)
    assert not Opinion.objects.exists()


def test_an_impossible_verdict_is_no_opinion(world, rita):
    overlap(world.dataset, 2)
    with pytest.raises(Refused, match="Choose the label"):
        give(world.findings[0], rita, Verdict.RELABEL)
    assert not Opinion.objects.exists()


def test_ones_list_holds_opinions_and_reviews_once(world, rita, bob):
    overlap(world.dataset, 2)
    give(world.findings[0], bob)
    give(world.findings[0], rita)  # settles it: a review
    give(world.findings[1], rita, Verdict.DISMISS)
    overlap(world.dataset, 1)
    undone = give(world.findings[2], rita)
    take_back(kind="review", pk=undone.pk, by=rita)
    rows = last_given(dataset=world.dataset, by=rita)
    assert [(row.kind, row.verdict, row.is_undone) for row in rows] == [
        ("review", Verdict.CONFIRM, True),
        ("opinion", Verdict.DISMISS, False),
        ("review", Verdict.CONFIRM, False),
    ]
    assert rows[1].finding == world.findings[1]
    assert last_standing(dataset=world.dataset, by=rita) == rows[1]
    assert len(last_given(dataset=world.dataset, by=rita, limit=2)) == 2


def test_the_overlap_is_a_stable_share(world, rita):
    findings = [Finding(pk=pk, dataset=world.dataset) for pk in range(1, 4001)]
    overlap(world.dataset, 2, 0.25)
    drawn = {f.pk for f in findings if is_under_overlap(f)}
    assert 900 < len(drawn) < 1100
    assert drawn == {f.pk for f in findings if is_under_overlap(f)}
    overlap(world.dataset, 2, 0.5)
    more = {f.pk for f in findings if is_under_overlap(f)}
    assert drawn < more
    overlap(world.dataset, 2, 0.0)
    assert not any(is_under_overlap(f) for f in findings)
    overlap(world.dataset, 1, 1.0)
    assert not any(is_under_overlap(f) for f in findings)
    assert is_plain(findings[0])
    overlap(world.dataset, 2, 1.0)
    assert not is_plain(findings[0])


def test_what_is_said_never_tells_what_it_was_recorded_as(world, rita, bob, lena):
    overlap(world.dataset, 2)
    said = {give(world.findings[0], by).said for by in (rita, bob)}
    overlap(world.dataset, 1)
    said.add(give(world.findings[1], lena).said)
    assert said == {"Confirmed."}
    assert set(SAID) == set(Verdict)


@pytest.mark.django_db(transaction=True)
def test_five_at_the_same_moment_do_not_overshoot(world):
    overlap(world.dataset, 3)
    finding = world.findings[0]
    people = [factories.UserFactory() for _ in range(5)]

    def judge(user):
        try:
            return give(finding, user).kind
        except FindingChanged:
            return "too late"
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        kinds = list(pool.map(judge, people))
    assert sorted(kinds) == ["opinion"] * 3 + ["too late"] * 2
    assert Opinion.objects.count() == 3
    assert Review.objects.count() == 1
