"""The pages of the team: who sees and does what."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.urls import reverse

from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.reviews import Decision, claim
from reviewapp.models import (
    Claim,
    Event,
    Finding,
    KnownAnswer,
    Review,
    Role,
    Standing,
    Verdict,
)
from reviewapp.team import Pace
from tests import factories
from tests.reviewing import decide, queue_of

TEAM = reverse("team", args=["animals"])
SECOND = reverse("team-second", args=["animals"])
DISPUTED = SECOND + "?show=disputed"


@pytest.fixture
def bob(dataset):
    user = factories.UserFactory(username="bob")
    factories.MembershipFactory(user=user, dataset=dataset, role=Role.REVIEWER)
    return user


def fresh(finding):
    return Finding.objects.select_related("dataset").get(pk=finding.pk)


@pytest.fixture
def dispute(world, rita, bob):
    """A finding that rita confirms and bob calls a fox."""
    world.dataset.overlap = 2
    world.dataset.save()
    finding = world.findings[0]
    give_verdict(
        finding=fresh(finding),
        by=rita,
        decision=Decision(Verdict.CONFIRM, 0, note="ears of a cat"),
    )
    give_verdict(
        finding=fresh(finding),
        by=bob,
        decision=Decision(Verdict.RELABEL, 0, new_label=world.labels[2]),
    )
    return finding


def text_of(response) -> str:
    return response.content.decode()


def test_a_reviewer_sees_the_team_but_nobody_elses_figures(
    world, rita, lena, bob, client_of
):
    decide(finding=world.findings[0], by=bob, verdict=Verdict.CONFIRM)
    page = text_of(client_of(rita).get(TEAM))
    assert "bob" not in page
    assert ">rita<" in page.replace("\n", "").replace(" ", "")
    assert "Set the rules" not in page
    assert "Known answers <" not in page
    assert '<th scope="row">bob</th>' in text_of(client_of(lena).get(TEAM))


@pytest.mark.parametrize(
    ("waiting", "mean", "error", "says"),
    [
        (250, 3600, 600, "88 days at the pace of the last 7 (59 to 116)"),
        (25, 3600, 600, "8.8 days at the pace of the last 7 (5.9 to 12)"),
        (250, 3600, 3600, "88 days at the pace of the last 7 (too uneven for an"),
        (250, None, 0, "neither time nor interval before 20 timed verdicts in 7 days"),
    ],
)
def test_the_time_left_is_no_more_exact_than_known(
    waiting, mean, error, says, world, rita, client_of, monkeypatch
):
    pace = Pace(timed=20 if mean else 19, seconds=20 * (mean or 1), error=error)
    monkeypatch.setattr("reviewapp.team._paces", lambda dataset: ({}, pace))
    Standing.objects.update(waiting=0)
    Standing.objects.filter(pk=Standing.objects.first().pk).update(waiting=waiting)
    page = " ".join(text_of(client_of(rita).get(TEAM)).split())
    assert says in page


def test_where_nothing_waits_no_time_is_left(world, rita, client_of, monkeypatch):
    pace = Pace(timed=20, seconds=72_000, error=1)
    monkeypatch.setattr("reviewapp.team._paces", lambda dataset: ({}, pace))
    Standing.objects.update(waiting=0)
    page = text_of(client_of(rita).get(TEAM))
    assert "nothing waits</span>" in page
    assert "days at the pace" not in page


def test_an_admin_sets_the_rules(world, alice, client_of):
    client = client_of(alice)
    sent = {"overlap": "3", "share": "12.5", "known": "5"}
    assert client.post(TEAM + "rules/", sent).url == TEAM
    world.dataset.refresh_from_db()
    assert world.dataset.overlap == 3
    assert (world.dataset.overlap_share, world.dataset.known_rate) == (0.125, 0.05)
    page = text_of(client.get(TEAM))
    assert 'value="12.5"' in page
    assert '<option value="3" selected>' in page


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap": "6"},
        {"share": "101"},
        {"known": "51"},
        {"known": "-1"},
        {"share": ""},
        {"share": "nan"},
        {"share": "inf"},
        {"overlap": "²"},
    ],
)
def test_rules_out_of_range_are_refused_in_place(wrong, world, alice, client_of):
    sent = {"overlap": "3", "share": "12.5", "known": "5", **wrong}
    response = client_of(alice).post(TEAM + "rules/", sent)
    assert response.status_code == 400
    assert "errorlist" in text_of(response)
    world.dataset.refresh_from_db()
    assert world.dataset.overlap == 1


@pytest.mark.parametrize("name", ["rules", "free"])
def test_rules_and_holds_are_for_admins(name, world, lena, client_of):
    sent = {"overlap": "3", "share": "12.5", "known": "5", "all": "1"}
    response = client_of(lena).post(f"{TEAM}{name}/", sent)
    assert response.status_code == 403
    assert not Event.objects.filter(action__in=["team rules set", "holds freed"])


def test_an_admin_frees_what_one_or_all_hold(world, alice, rita, bob, client_of):
    client = client_of(alice)
    claim(queue=queue_of(world.dataset), by=rita, limit=2)
    claim(queue=queue_of(world.dataset), by=bob, limit=1)
    page = client.post(TEAM + "free/", {"holder": rita.pk}, follow=True)
    assert "2 that rita held are free again." in text_of(page)
    assert set(Claim.objects.values_list("reviewer", flat=True)) == {bob.pk}
    page = client.post(TEAM + "free/", {"all": "1"}, follow=True)
    assert "1 that the team held are free again." in text_of(page)


@pytest.mark.parametrize("holder", ["", "0", "²", "9" * 30, "nobody"])
def test_who_holds_nothing_cannot_be_freed(holder, world, alice, client_of):
    response = client_of(alice).post(TEAM + "free/", {"holder": holder})
    assert response.status_code == 404


def test_disputes_are_for_leads_without_names(dispute, rita, lena, client_of):
    page = text_of(client_of(lena).get(DISPUTED))
    assert "Reviewer 1" in page
    assert "ears of a cat" in page
    assert "relabel to fox" in page
    assert "rita" not in page
    assert "bob" not in page
    # A reviewer gets the flagged ones whatever the address says.
    assert "ears of a cat" not in text_of(client_of(rita).get(DISPUTED))


def test_a_lead_decides_and_then_sees_the_names(dispute, world, lena, client_of):
    client = client_of(lena)
    sent = {
        "version": "0",
        "relabel_to": world.labels[2].pk,
        "key": str(uuid4()),
        "show": "disputed",
    }
    address = reverse("team-decide", args=["animals", dispute.pk])
    page = client.post(address, sent, follow=True)
    assert page.redirect_chain[0][0] == DISPUTED
    text = text_of(page)
    assert "rita had said confirm, bob had said relabel to fox." in text
    assert "rita: confirm" in text
    assert fresh(dispute).review_state == Finding.ReviewState.RELABELLED
    client.post(address, sent)  # a double click
    assert Review.objects.count() == 1


def test_a_reviewer_cannot_decide_a_dispute(dispute, rita, client_of):
    address = reverse("team-decide", args=["animals", dispute.pk])
    page = client_of(rita).post(
        address, {"version": "0", "verdict": "confirm"}, follow=True
    )
    assert "a lead decides" in text_of(page)
    assert fresh(dispute).review_state == Finding.ReviewState.DISPUTED


def test_a_lead_does_not_decide_their_own_dispute(world, rita, lena, alice, client_of):
    world.dataset.overlap = 2
    world.dataset.save()
    finding = world.findings[0]
    for by, verdict in ((rita, Verdict.CONFIRM), (lena, Verdict.DISMISS)):
        decision = Decision(verdict, 0)
        give_verdict(finding=fresh(finding), by=by, decision=decision)
    client = client_of(lena)
    assert "You gave one of these opinions: another lead" in text_of(
        client.get(DISPUTED)
    )
    address = reverse("team-decide", args=["animals", finding.pk])
    sent = {"version": "0", "verdict": "dismiss"}
    page = text_of(client.post(address, sent, follow=True))
    assert "do not agree: another lead decides. Your verdict was not recorded." in page
    assert fresh(finding).review_state == Finding.ReviewState.DISPUTED
    # Alice, who administers it, could; without her nobody else is left.
    assert "another lead decides" not in text_of(client_of(alice).get(DISPUTED))
    world.dataset.memberships.filter(user=alice).delete()
    page = text_of(client.get(DISPUTED))
    assert "No other lead is left to decide, so you may." in page
    client.post(address, sent)
    assert fresh(finding).review_state == Finding.ReviewState.DISMISSED


@pytest.mark.parametrize("address", [TEAM, SECOND, DISPUTED])
def test_every_tab_says_how_much_waits_in_the_others(
    address, dispute, world, lena, bob, client_of
):
    world.dataset.overlap = 1
    world.dataset.save()
    for finding in world.findings[1:]:
        decide(finding=finding, by=bob, verdict=Verdict.FLAG)
    page = text_of(client_of(lena).get(address))
    assert "Flagged (2)" in page
    assert "Disputed (1)" in page


def test_a_flag_comes_with_its_note_to_everybody_else(world, rita, bob, client_of):
    decide(finding=world.findings[0], by=rita, verdict=Verdict.FLAG, note="cat or fox?")
    assert "somebody else decides" in text_of(client_of(rita).get(SECOND))
    page = text_of(client_of(bob).get(SECOND))
    assert "cat or fox?" in page
    assert "Confirm cat" in page
    address = reverse("team-decide", args=["animals", world.findings[0].pk])
    page = client_of(bob).post(
        address,
        {"version": "1", "verdict": "relabel", "new_label": world.labels[2].pk},
        follow=True,
    )
    assert "Relabelled." in text_of(page)
    assert fresh(world.findings[0]).review_state == Finding.ReviewState.RELABELLED


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"version": "1"},
        {"version": "x", "verdict": "confirm"},
        {"version": "1", "verdict": "approve"},
        {"version": "1", "verdict": "relabel", "new_label": "999999"},
        {"version": "1", "verdict": "confirm", "key": "no-uuid"},
        {"version": "9", "verdict": "confirm"},
    ],
)
def test_a_bad_verdict_is_refused_and_said(sent, world, rita, bob, client_of):
    decide(finding=world.findings[0], by=rita, verdict=Verdict.FLAG)
    address = reverse("team-decide", args=["animals", world.findings[0].pk])
    page = client_of(bob).post(address, sent, follow=True)
    assert "was not recorded" in text_of(page)
    assert fresh(world.findings[0]).review_state == Finding.ReviewState.FLAGGED


def test_second_opinions_come_in_pages(world, rita, bob, client_of):
    for finding in [*world.findings, *world.add_findings(19)]:
        decide(finding=finding, by=rita, verdict=Verdict.FLAG)
    client = client_of(bob)
    first = client.get(SECOND)
    assert text_of(first).count('class="card case"') == 20
    rest = client.get(SECOND, {"after": first.context["next"]})
    assert text_of(rest).count('class="card case"') == 2
    assert client.get(SECOND, {"after": "nonsense"}).status_code == 400


def test_the_queries_of_second_opinions_do_not_grow(
    world, rita, bob, client_of, django_assert_num_queries
):
    client = client_of(bob)
    decide(finding=world.findings[0], by=rita, verdict=Verdict.FLAG)
    client.get(SECOND)
    # session, user, data set, role, findings, flags, two counts, labels
    with django_assert_num_queries(9):
        client.get(SECOND)
    for finding in world.add_findings(10):
        decide(finding=finding, by=rita, verdict=Verdict.FLAG)
    with django_assert_num_queries(9):
        client.get(SECOND)


def test_a_lead_marks_a_known_answer_and_takes_it_off(world, lena, alice, client_of):
    finding = world.findings[0]
    client = client_of(lena)
    address = reverse("finding-known", args=["animals", finding.pk])
    assert client.post(address).status_code == 400  # nobody decided it
    decide(finding=finding, by=alice, verdict=Verdict.CONFIRM)
    page = reverse("finding-detail", args=["animals", finding.pk])
    assert "Mark as a known answer" in text_of(client.get(page))
    assert client.post(address).url == page
    marked = text_of(client.get(page))
    assert "Take the mark off" in marked
    assert "the share of known answers is 0 %" in marked  # it says what is missing
    assert KnownAnswer.objects.get().added_by == lena
    assert "0 of 0" in text_of(client.get(TEAM))
    assert client.post(address, {"remove": "1", "team": "1"}).url == TEAM
    assert not KnownAnswer.objects.exists()
    assert client.post(address, {"remove": "1"}).status_code == 404


def test_known_answers_are_for_leads(world, rita, alice, client_of):
    decide(finding=world.findings[0], by=alice, verdict=Verdict.CONFIRM)
    address = reverse("finding-known", args=["animals", world.findings[0].pk])
    client = client_of(rita)
    assert client.post(address).status_code == 403
    page = reverse("finding-detail", args=["animals", world.findings[0].pk])
    assert "known answer" not in text_of(client.get(page))
    assert not KnownAnswer.objects.exists()
