"""The queue over the API: in an order, and safe to send again."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reviewapp.models import Claim, Finding, KnownAnswer, Review, Verdict
from tests.reviewing import decide

URL = "/api/datasets/animals/"


def test_it_hands_out_a_lane_in_an_order(world, rita, api_of):
    Finding.objects.filter(pk=world.findings[1].pk).update(confidence=0.99)
    body = {"limit": 2, "lane": "model", "order": "surest", "split": "test"}
    held = api_of(rita).post(f"{URL}queue/next/", body)
    assert held.status_code == 200
    ids = [row["id"] for row in held.json()]
    assert ids == [world.findings[1].pk, world.findings[2].pk]
    assert held.json()[0]["last_scan"] == world.scan.pk
    assert set(Claim.objects.values_list("finding_id", flat=True)) == set(ids)
    assert api_of(rita).post(f"{URL}queue/renew/").json() == {"findings": 2}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"order": "best"}, "order"),
        ({"lane": ""}, "lane"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"true_label": 999_999}, "not possible"),
        ({"cause": "blur"}, "no such field"),
    ],
)
def test_a_queue_that_is_not_possible_is_refused(world, rita, api_of, body, said):
    refused = api_of(rita).post(f"{URL}queue/next/", body)
    assert refused.status_code == 400
    assert said in refused.content.decode()
    assert not Claim.objects.exists()


def test_a_verdict_that_is_sent_again_is_one_verdict(world, rita, api_of):
    client = api_of(rita)
    url = f"{URL}findings/{world.findings[0].pk}/decide/"
    verdict = {
        "verdict": "dismiss", "version": 0, "reason": "duplicate", "key": str(uuid4()),
    }  # fmt: skip
    first = client.post(url, verdict)
    assert first.status_code == 201
    assert first.json()["review"]["reason"] == "duplicate"
    assert client.post(url, verdict).json() == first.json()
    other = f"{URL}findings/{world.findings[1].pk}/decide/"
    refused = client.post(other, verdict)
    assert refused.status_code == 400
    assert "key of another one" in refused.json()["detail"]
    assert Review.objects.count() == 1


def test_ones_own_last_verdicts_are_listed_and_taken_back(world, rita, lena, api_of):
    client = api_of(rita)
    mine = [
        decide(finding=f, by=rita, verdict=Verdict.CONFIRM) for f in world.findings[:2]
    ]
    decide(finding=world.findings[2], by=lena, verdict=Verdict.CONFIRM)
    assert client.post(f"{URL}reviews/undo-last/").status_code == 204
    listed = client.get(f"{URL}reviews/mine/").json()
    assert [(row["id"], row["undone"]) for row in listed] == [
        (mine[1].pk, True),
        (mine[0].pk, False),
    ]


def test_a_known_answer_is_handed_out_as_if_it_were_new(world, rita, alice, api_of):
    known = world.findings[0]
    decide(finding=known, by=alice, verdict=Verdict.CONFIRM)
    KnownAnswer.objects.create(
        dataset=world.dataset, finding=known, verdict="confirm", added_by=alice
    )
    world.dataset.known_rate = 0.5
    world.dataset.save(update_fields=["known_rate"])
    client = api_of(rita)
    rows = client.post(f"{URL}queue/next/", {"limit": 10}).json()
    assert {row["review_state"] for row in rows} == {"open"}
    shown = client.get(f"{URL}findings/{known.pk}/").json()
    assert (shown["review_state"], shown["reviews"]) == ("open", [])
    said = client.post(
        f"{URL}findings/{known.pk}/decide/",
        {"verdict": "confirm", "version": known.version + 1},
    )
    assert said.json() == {"said": "Confirmed.", "review": None}
    assert Review.objects.count() == 1
