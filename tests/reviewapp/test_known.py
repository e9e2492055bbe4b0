"""Known answers: mixed in unseen, scored, and nothing else changes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone

from reviewapp.actions import known as known_actions
from reviewapp.actions.given import last_given
from reviewapp.actions.known import (
    add_known_answer,
    as_new,
    is_blind,
    mix_in,
    remove_known_answer,
)
from reviewapp.actions.opinions import give_verdict, take_back_last
from reviewapp.actions.reviews import Decision, claim, decide, release, skip
from reviewapp.exceptions import FindingChanged, FindingHeld, Refused
from reviewapp.models import (
    Claim,
    Event,
    Finding,
    KnownAnswer,
    KnownAttempt,
    Review,
    Role,
    Verdict,
)
from tests import factories
from tests.reviewing import queue_of

KEY = UUID(int=7)


def fresh(finding: Finding) -> Finding:
    return (
        Finding.objects.select_related("dataset", "sample", "predicted_label")
        .with_names()
        .get(pk=finding.pk)
    )


def give(finding, by, verdict=Verdict.CONFIRM, version=1, **fields):
    decision = Decision(verdict, version, **fields)
    return give_verdict(finding=fresh(finding), by=by, decision=decision)


@pytest.fixture
def known(world, lena, alice) -> KnownAnswer:
    """The first finding: Alice confirmed it, Lena marked it."""
    finding = world.findings[0]
    decide(finding=finding, by=alice, decision=Decision(Verdict.CONFIRM, 0))
    return add_known_answer(finding=fresh(finding), by=lena)


@pytest.fixture
def relabelled(world, lena, alice) -> KnownAnswer:
    """The second finding: Alice relabelled it to fox, Lena marked it."""
    finding = world.findings[1]
    decision = Decision(Verdict.RELABEL, 0, new_label=world.labels[2])
    decide(finding=finding, by=alice, decision=decision)
    return add_known_answer(finding=fresh(finding), by=lena)


def test_a_mark_takes_over_the_verdict_and_is_an_event(known, relabelled, world):
    assert (known.verdict, known.new_label) == (Verdict.CONFIRM, None)
    assert (relabelled.verdict, relabelled.new_label) == (
        Verdict.RELABEL,
        world.labels[2],
    )
    assert Event.objects.filter(action="known answer added").count() == 2


def test_it_refuses_to_mark_what_nobody_decided(world, lena):
    with pytest.raises(Refused, match="Decide it first"):
        add_known_answer(finding=world.findings[0], by=lena)
    give(world.findings[0], lena, Verdict.FLAG, version=0)
    with pytest.raises(Refused, match="Decide it first"):
        add_known_answer(finding=fresh(world.findings[0]), by=lena)


def test_it_refuses_a_second_mark(known, alice):
    with pytest.raises(Refused, match="already"):
        add_known_answer(finding=known.finding, by=alice)


def test_a_verdict_on_it_is_an_attempt_and_changes_nothing_else(known, rita):
    before = Finding.objects.values().get(pk=known.finding_id)
    given = give(known.finding, rita, Verdict.DISMISS)
    assert (given.kind, given.review, given.said) == ("attempt", None, "Dismissed.")
    tried = KnownAttempt.objects.get()
    assert (tried.reviewer, tried.verdict, tried.is_right) == (rita, "dismiss", False)
    assert Finding.objects.values().get(pk=known.finding_id) == before
    assert Review.objects.count() == 1


def test_a_relabel_is_right_with_the_right_label_alone(relabelled, world, rita, bob):
    for by, label in ((rita, world.labels[2]), (bob, world.labels[1])):
        give(relabelled.finding, by, Verdict.RELABEL, new_label=label)
    assert KnownAttempt.objects.scores() == {rita.pk: (1, 1), bob.pk: (0, 1)}


@pytest.fixture
def bob(dataset):
    user = factories.UserFactory(username="bob")
    factories.MembershipFactory(user=user, dataset=dataset, role=Role.REVIEWER)
    return user


def test_a_retry_is_one_attempt(known, rita):
    first = give(known.finding, rita, key=KEY)
    assert give(known.finding, rita, key=KEY) == first
    with pytest.raises(Refused, match="it stands"):
        give(known.finding, rita, Verdict.DISMISS)
    assert KnownAttempt.objects.count() == 1


def test_an_attempt_is_undone_like_any_verdict(known, rita):
    give(known.finding, rita, Verdict.DISMISS)
    rows = last_given(dataset=known.dataset, by=rita)
    assert [(row.kind, row.verdict) for row in rows] == [("attempt", "dismiss")]
    assert rows[0].finding.review_state == Finding.ReviewState.OPEN
    shown = take_back_last(dataset=known.dataset, by=rita)
    assert (shown.pk, shown.review_state) == (known.finding_id, "open")
    assert fresh(known.finding).review_state == Finding.ReviewState.CONFIRMED
    give(known.finding, rita)
    assert KnownAttempt.objects.get().is_right


def test_an_attempt_must_be_a_possible_verdict(known, rita):
    with pytest.raises(Refused, match="Choose the label"):
        give(known.finding, rita, Verdict.RELABEL)
    with pytest.raises(FindingChanged):
        give(known.finding, rita, version=0)
    assert not KnownAttempt.objects.exists()


def test_an_attempt_needs_the_hold_like_any_verdict(known, rita, bob):
    Claim.objects.create(
        finding=known.finding,
        reviewer=bob,
        expires_at=timezone.now() + timedelta(minutes=5),
    )
    with pytest.raises(FindingHeld, match="bob is looking at"):
        give(known.finding, rita)
    give(known.finding, bob)
    assert not Claim.objects.exists()


def test_a_lead_is_told_that_the_answer_is_known(known, lena):
    with pytest.raises(Refused, match="take the mark off"):
        give(known.finding, lena, Verdict.DISMISS)
    remove_known_answer(known=known, by=lena)
    assert give(known.finding, lena, Verdict.DISMISS, version=2).kind == "review"
    assert Event.objects.filter(action="known answer removed").exists()


def test_a_desk_from_before_the_mark_was_taken_off_decides_nothing(known, lena, rita):
    remove_known_answer(known=known, by=lena)
    with pytest.raises(FindingChanged):
        give(known.finding, rita, Verdict.DISMISS, version=1)


def test_a_finding_that_was_opened_again_has_no_known_answer(known, rita):
    Finding.objects.filter(pk=known.finding_id).update(review_state="open", version=2)
    assert give(known.finding, rita, Verdict.DISMISS, version=2).kind == "review"


def test_only_who_does_not_know_sees_it_as_new(
    known, rita, lena, alice, world, django_assert_num_queries
):
    finding = fresh(known.finding)
    assert is_blind(finding=finding, by=rita)
    assert not is_blind(finding=finding, by=alice)  # her own verdict
    assert not is_blind(finding=finding, by=lena)  # her own mark
    with django_assert_num_queries(0):
        assert not is_blind(finding=world.findings[1], by=rita)


def test_another_lead_is_blind_only_to_what_was_handed_out(
    known, world, dataset, monkeypatch
):
    monkeypatch.setattr(known_actions, "_gap", lambda rate, drawn: 0)
    lead = factories.UserFactory(username="leo")
    factories.MembershipFactory(user=lead, dataset=dataset, role=Role.LEAD)
    finding = fresh(known.finding)
    assert not is_blind(finding=finding, by=lead)
    dataset.known_rate = 0.5
    mix_in(queue=queue_of(dataset), by=lead, findings=world.findings[1:])
    assert is_blind(finding=finding, by=lead)
    assert give(finding, lead).kind == "attempt"


def test_as_new_shows_nothing_of_the_verdict(relabelled):
    shown = as_new(fresh(relabelled.finding))
    assert shown.review_state == Finding.ReviewState.OPEN
    assert shown.sample.label_id == shown.true_label_id
    assert shown.sample.label.name == "cat"


def test_without_a_rate_nothing_is_read(world, rita, django_assert_num_queries):
    queue = queue_of(world.dataset)
    with django_assert_num_queries(0):
        assert mix_in(queue=queue, by=rita, findings=world.findings) == world.findings


def test_asking_again_hands_out_the_same(known, world, rita, monkeypatch):
    monkeypatch.setattr(known_actions, "_gap", lambda rate, drawn: 1)
    world.dataset.known_rate = 0.2
    queue = queue_of(world.dataset)
    findings = claim(queue=queue, by=rita)
    mixed = mix_in(queue=queue, by=rita, findings=list(findings))
    assert mixed == [findings[0], known.finding, findings[1]]
    assert mixed[1].review_state == Finding.ReviewState.OPEN
    assert Claim.objects.get(finding=known.finding).reviewer == rita
    assert mix_in(queue=queue, by=rita, findings=list(findings)) == mixed
    give(findings[0], rita, version=0)
    assert mix_in(queue=queue, by=rita, findings=findings[1:])[0] == known.finding
    give(known.finding, rita)
    left = claim(queue=queue, by=rita)
    assert mix_in(queue=queue, by=rita, findings=list(left)) == left
    release(dataset=world.dataset, by=rita)
    assert not Claim.objects.exists()


@pytest.mark.parametrize("who", ["lena", "alice", "tried", "held", "skipped", "other"])
def test_it_is_not_mixed_in_for(who, known, world, rita, request, monkeypatch):
    monkeypatch.setattr(known_actions, "_gap", lambda rate, drawn: 0)
    world.dataset.known_rate = 0.5
    by = request.getfixturevalue(who) if who in ("lena", "alice") else rita
    fields = {}
    if who == "tried":
        give(known.finding, rita)
    elif who == "held":
        Claim.objects.create(
            finding=known.finding,
            reviewer=known.added_by,
            expires_at=timezone.now() + timedelta(minutes=5),
        )
    elif who == "skipped":
        skip(finding=known.finding, by=rita)
    elif who == "other":  # it would be told apart in a queue that it is not of
        fields = {"true_label": str(world.labels[1].pk)}
    queue = queue_of(world.dataset, **fields)
    assert known.finding not in mix_in(queue=queue, by=by, findings=world.findings[1:])


def test_the_rate_is_kept_and_the_places_are_not_foreseen(world, rita):
    drawn = [known_actions._drawn(f"{rita.pk} {n}") for n in range(20_000)]
    for rate in (0.02, 0.1, 0.5):
        gaps = [known_actions._gap(rate, one) for one in drawn]
        share = len(gaps) / (len(gaps) + sum(gaps))
        assert share == pytest.approx(rate, rel=0.05)
        assert len(set(gaps)) > 5
    assert max(known_actions._gap(0.001, one) for one in drawn) == known_actions.MAX_GAP


@pytest.mark.django_db(transaction=True)
def test_a_mark_that_is_taken_off_at_the_same_moment_records_nothing(known, rita, lena):
    def try_it() -> str:
        try:
            give(known.finding, rita)
        except FindingChanged as error:
            return str(error)
        finally:
            connection.close()
        return "recorded"

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            KnownAnswer.objects.select_for_update().get(pk=known.pk)
            tried = pool.submit(try_it)
            time.sleep(0.5)  # it has read the mark and waits for it
            remove_known_answer(known=known, by=lena)
        assert "was not recorded" in tried.result()
    assert not KnownAttempt.objects.exists()
