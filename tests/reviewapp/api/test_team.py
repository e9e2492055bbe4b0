"""The team over the API."""

from __future__ import annotations

import pytest

from reviewapp.actions.reviews import claim
from reviewapp.models import Claim, KnownAnswer, Verdict
from tests.reviewing import decide, queue_of

TEAM = "/api/datasets/animals/team/"
KNOWN = "/api/datasets/animals/known-answers/"


def test_leads_read_everybodys_figures_and_reviewers_their_own(
    world, rita, lena, api_of
):
    decide(finding=world.findings[0], by=lena, verdict=Verdict.CONFIRM)
    got = api_of(lena).get(TEAM).json()
    assert [one["username"] for one in got["people"]] == ["lena", "rita"]
    assert got["total"] == {
        "today": 1,
        "week": 1,
        "per_hour": None,
        "median": None,
    }
    assert got["left"]["errors"] == 2
    assert got["left"]["work"] is None
    assert got["verdict"] == {
        "n": 0,
        "observed": 0.0,
        "kappa": None,
        "low": None,
        "high": None,
    }
    assert got["people"][0]["known"] == {"right": 0, "of": 0, "low": 0.0, "high": 1.0}
    mine = api_of(rita).get(TEAM).json()
    assert [one["username"] for one in mine["people"]] == ["rita"]


def test_an_admin_sets_rules_and_a_member_reads_them(world, alice, rita, api_of):
    rules = {"overlap": 2, "overlap_share": 0.5, "known_rate": 0.05}
    assert api_of(alice).put(TEAM + "rules/", rules).json() == rules
    assert api_of(rita).get(TEAM + "rules/").json() == rules
    assert api_of(rita).put(TEAM + "rules/", rules).status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [{"overlap": 9}, {"overlap_share": 2}, {"known_rate": 0.9}, {"overlap": None}],
)
def test_wrong_rules_are_refused(wrong, world, alice, api_of):
    rules = {"overlap": 2, "overlap_share": 0.5, "known_rate": 0.05, **wrong}
    assert api_of(alice).put(TEAM + "rules/", rules).status_code == 400
    assert api_of(alice).get(TEAM + "rules/").json()["overlap"] == 1


def test_an_admin_frees_what_is_held(world, alice, rita, lena, api_of):
    claim(queue=queue_of(world.dataset), by=rita, limit=2)
    client = api_of(alice)
    assert api_of(lena).post(TEAM + "free/", {}).status_code == 403
    assert client.post(TEAM + "free/", {"username": "lena"}).status_code == 404
    assert client.post(TEAM + "free/", {"username": "rita"}).json() == {"freed": 2}
    claim(queue=queue_of(world.dataset), by=rita, limit=1)
    assert client.post(TEAM + "free/", {}).json() == {"freed": 1}
    assert not Claim.objects.exists()


def test_a_lead_keeps_the_known_answers(world, lena, rita, alice, api_of):
    finding = world.findings[0]
    client = api_of(lena)
    assert client.post(KNOWN, {"finding": finding.pk}).status_code == 400
    decide(finding=finding, by=alice, verdict=Verdict.CONFIRM)
    made = client.post(KNOWN, {"finding": finding.pk})
    assert made.status_code == 201
    assert made.json()["verdict"] == "confirm"
    assert client.get(KNOWN).json()["results"] == [made.json()]
    assert api_of(rita).get(KNOWN).status_code == 403
    one = f"{KNOWN}{made.json()['id']}/"
    assert client.get(one).json() == made.json()
    assert api_of(rita).delete(one).status_code == 403
    assert client.delete(one).status_code == 204
    assert not KnownAnswer.objects.exists()


def test_another_teams_finding_is_no_known_answer(world, charlie, api_of):
    address = KNOWN.replace("animals", "other")
    sent = {"finding": world.findings[0].pk}
    assert api_of(charlie).post(address, sent).status_code == 404
