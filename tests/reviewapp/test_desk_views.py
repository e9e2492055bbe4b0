"""What the desk shows, and the fragments that its script gets."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from reviewapp.actions import reviews as actions
from reviewapp.models import Claim, Finding, Lookalike, Review, Sample, Undo, Verdict
from reviewapp.suggestions import often_given
from reviewapp.views.desk import _draw_causes
from tests import factories
from tests.reviewing import decide, queue_of

SCRIPT = {"Hardmine-Desk": "1"}


def url(name: str, *args: object) -> str:
    return reverse(name, args=["animals", *args])


def desk_of(finding: Finding) -> str:
    return url("review-finding", finding.pk)


def desks_in(response) -> list[int]:
    """Return the ids of the desks in an answer."""
    found = re.findall(
        r'<article class="desk"[^>]* data-finding="(\d+)"', response.text
    )
    return [int(pk) for pk in found]


@pytest.fixture
def desk(world, rita, client_of) -> Client:
    """Rita's client; nothing is claimed yet."""
    return client_of(rita)


@pytest.fixture
def give(desk):
    """Send a verdict as the desk's script does."""

    def give(finding: Finding, verdict: str = "confirm", **fields: object):
        data = {"version": finding.version, "verdict": verdict, **fields}
        return desk.post(url("finding-decide", finding.pk), data, headers=SCRIPT)

    return give


# --- answers to the script -----------------------------------------------------------


def test_one_request_decides_and_brings_the_next(give, world):
    first, second, _ = world.findings
    response = give(first)
    assert response.status_code == 200
    assert desks_in(response) == [second.pk]
    assert "desk-progress" not in response.text  # the script counts by itself
    assert "<html" not in response.text
    assert Review.objects.get().finding == first


def test_every_now_and_then_the_script_asks_how_far_it_is(give, world):
    response = give(world.findings[0], progress="1")
    assert 'data-done="1" data-left="2"' in response.text


def test_what_the_browser_holds_ready_is_left_out(give, world):
    first, second, third = world.findings
    assert desks_in(give(first, beside=f"{second.pk},x,{9**30}")) == [third.pk]
    assert desks_in(give(second, beside=str(third.pk))) == []


def test_a_retry_is_one_verdict_and_one_more_desk(give, world):
    first, second, _ = world.findings
    key = uuid4()
    for _ in range(2):
        response = give(first, key=key)
        assert response.status_code == 200
        assert desks_in(response) == [second.pk]
    assert Review.objects.count() == 1


def test_the_script_gets_as_many_desks_as_it_asks_for(desk, world):
    world.add_findings(9)
    response = desk.post(url("review-next"), {"count": "4"}, headers=SCRIPT)
    assert desks_in(response) == [finding.pk for finding in world.findings[:4]]
    response = desk.post(url("review-next"), {"count": "1000"}, headers=SCRIPT)
    assert len(desks_in(response)) == 5


def test_a_refusal_says_why_and_nothing_else(give, world, lena):
    first = world.findings[0]
    decide(finding=first, by=lena, verdict=Verdict.DISMISS)
    response = give(first)
    assert response.status_code == 409
    assert response.text.startswith('<p id="refusal">lena gave the verdict dismiss')
    assert give(world.findings[1], verdict="maybe").status_code == 400
    assert Review.objects.count() == 1


def test_undo_takes_back_the_verdict_of_a_key_once(desk, give, world, rita):
    keys = [uuid4(), uuid4()]
    for finding, key in zip(world.findings, keys, strict=False):
        give(finding, key=key)
    for _ in range(2):  # a retry takes nothing more back
        response = desk.post(url("review-undo"), {"key": keys[1]}, headers=SCRIPT)
        assert desks_in(response) == [world.findings[1].pk]
    assert Undo.objects.count() == 1
    assert Claim.objects.get(finding=world.findings[1]).reviewer == rita
    response = desk.post(url("review-undo"), {"key": "nonsense"}, headers=SCRIPT)
    assert response.status_code == 400
    assert "not among your last ones" in response.text
    assert desks_in(desk.post(url("review-undo"), headers=SCRIPT)) == [
        world.findings[0].pk
    ]


def test_renewing_holds_on_and_tells_what_is_lost(desk, world, rita, lena):
    first, second, third = world.findings
    actions.claim(queue=queue_of(world.dataset), by=rita, limit=3)
    Claim.objects.update(expires_at=timezone.now() + timedelta(seconds=5))
    Claim.objects.filter(finding=second).update(reviewer=lena)
    Finding.objects.filter(pk=third.pk).update(version=4)
    on = f"{first.pk}:0,{second.pk}:0,{third.pk}:0,,x:1"
    lost = desk.post(url("review-renew"), {"on": on}).json()["lost"]
    assert lost[str(second.pk)].startswith("lena has taken this finding over.")
    assert "has changed" in lost[str(third.pk)]
    assert str(first.pk) not in lost
    held = Claim.objects.get(finding=first)
    assert held.expires_at > timezone.now() + timedelta(minutes=5)


def test_nobody_holds_another_data_sets_finding(desk, world, rita):
    other = factories.DatasetFactory(name="Second", slug="second")
    factories.MembershipFactory(user=rita, dataset=other)
    address = reverse("review-renew", args=["second"])
    on = f"{world.findings[0].pk}:0"
    assert desk.post(address, {"on": on}).json()["lost"] == {
        str(world.findings[0].pk): (
            "This finding has changed since it was loaded. A verdict would be refused."
        )
    }
    assert not Claim.objects.exists()


def test_nearly_identical_images_are_offered(desk, give, world):
    first, _, third = world.findings
    Lookalike.objects.create(
        dataset=world.dataset, sample=first.sample, other=third.sample, distance=1
    )
    response = give(first)
    assert "1 nearly identical image waits" in response.text
    assert f'value="{third.pk}:0"' in response.text
    # Without a script the next page offers it.
    Undo.objects.create(review=Review.objects.get(), by=Review.objects.get().reviewer)
    Finding.objects.filter(pk=first.pk).update(review_state="open")
    data = {"version": 1, "verdict": "confirm"}
    response = desk.post(url("finding-decide", first.pk), data)
    assert "alike=" in response["Location"]
    assert "1 nearly identical image waits" in desk.get(response["Location"]).text


# --- what the desk says ------------------------------------------------------------------


def test_the_card_says_why_it_is_here(desk, world):
    page = desk.get(desk_of(world.findings[1]))
    why = "Predicted dog at 0.80; label cat has 0.01; 3 of this kind; 2nd in the queue"
    assert page.context["why"] == why
    assert why in page.text


def test_it_says_how_often_the_model_was_wrong(desk, world):
    first = world.findings[0]
    for _ in range(2):
        factories.ScanFactory(model_version=world.scan.model_version)
    seen = factories.ScanFactory(model_version=world.scan.model_version)
    factories.ScanFactory(model_version=world.scan.model_version, split="train")
    other = factories.FindingFactory(
        sample=first.sample,
        predicted_label=world.labels[2],
        registered_model=world.model,
    )
    factories.SightingFactory(finding=other, scan=seen)
    page = desk.get(desk_of(first))
    assert (page.context["past"].wrong, page.context["past"].of) == (2, 4)
    assert "Wrong in 2 of 4 scans." in page.text


def test_it_shows_what_both_classes_usually_look_like(desk, world, rita, charlie):
    first = world.findings[0]
    sample = factories.SampleFactory(label=world.labels[1])
    one = factories.ExemplarFactory(scan=world.scan, sample=sample)
    page = desk.get(desk_of(first))
    cats, dogs = page.text.split("cat usually")[1].split("dog usually")
    image = url("exemplar-image", one.pk, one.digest, "grid")
    assert "none right in the last scan" in cats
    assert image not in cats
    assert image in dogs


def test_causes_often_given_here_are_marked(desk, world, lena):
    often_given.cache_clear()
    more = world.add_findings(3)
    for finding in more:
        decide(finding=finding, by=lena, verdict=Verdict.CONFIRM, causes=["pose"])
    page = desk.get(desk_of(world.findings[0]))
    often = page.text.split("is-often")[1:]
    assert len(often) == 1
    assert 'value="pose"' in often[0].split("</label>")[0]
    fox = world.add_findings(1, predicted=2)[0]
    page = desk.get(desk_of(fox))
    assert "is-often" not in page.text


def test_the_desk_shows_what_speaks_for_each_label(desk, world):
    first = world.findings[0]
    first.sightings.update(
        top_labels=[world.labels[i].pk for i in (1, 2, 0)], top_probs=[0.8, 0.19, 0.01]
    )
    Sample.objects.filter(pk=first.sample_id).update(
        key="<b>ähm</b> %20.png", attributes={"<i>": "<script>"}
    )
    page = desk.get(desk_of(first))
    assert [(g.name, g.is_true, g.is_choice) for g in page.context["guesses"]] == [
        ("dog", False, True),
        ("fox", False, True),
        ("cat", True, False),
    ]
    assert "19.0 %" in page.text
    assert "&lt;b&gt;ähm&lt;/b&gt; %20.png" in page.text
    assert "<script>" not in page.text
    assert "<b>ähm" not in page.text


def test_the_desk_says_why_it_asks_again(desk, world, lena):
    first = world.findings[0]
    review = decide(finding=first, by=lena, verdict=Verdict.CONFIRM)
    Finding.objects.filter(pk=first.pk).update(
        review_state="open", reopened_because="the image changed since it was confirmed"
    )
    page = desk.get(desk_of(first))
    assert "Asked again: the image changed since it was confirmed." in page.text
    assert "<strong>confirm</strong>" in page.text
    assert page.context["reviews"] == [review]


def test_a_relabelled_finding_takes_no_further_verdict(desk, world, lena):
    first = world.findings[0]
    decide(finding=first, by=lena, verdict=Verdict.RELABEL, new_label=world.labels[1])
    page = desk.get(desk_of(first))
    assert "The label of this image is dog now." in page.text
    assert 'name="verdict"' not in page.text


def test_a_class_that_is_gone_is_no_choice(desk, world):
    dog = world.labels[1]
    dog.index = None
    dog.save(update_fields=["index"])
    page = desk.get(desk_of(world.findings[0]))
    assert ">dog</option>" not in page.text
    assert not page.context["guesses"][0].is_choice


def test_the_prediction_is_chosen_beforehand(desk, world):
    page = desk.get(desk_of(world.findings[0]))
    assert page.context["proposed"] == world.labels[1].pk
    assert f'<option value="{world.labels[1].pk}" selected>dog</option>' in page.text
    assert ">cat</option>" not in page.text


def test_a_near_miss_proposes_the_second_guess(desk, world):
    near = world.add_findings(1, true=1, predicted=1)[0]
    near.sightings.update(top_labels=[world.labels[1].pk, world.labels[2].pk])
    page = desk.get(desk_of(near))
    assert page.context["proposed"] == world.labels[2].pk


def test_what_is_no_cause_is_not_kept_with_what_was_drawn(desk, world):
    """Whatever a refused verdict carries: the process would hold it for good."""
    address = url("finding-decide", world.findings[0].pk)
    refused = {"version": 0, "verdict": "confirm"}
    for sent in (["pose"], ["pose", "x" * 1000], ["pose", "y" * 1000]):
        page = desk.post(address, {**refused, "causes": sent, "note": "n" * 3000})
        assert 'value="pose" data-action="cause_pose" checked' in page.text
    before = _draw_causes.cache_info().currsize
    desk.post(address, {**refused, "causes": ["pose", "z" * 1000]})
    assert _draw_causes.cache_info().currsize == before


def test_a_persons_keys_are_on_the_buttons(desk, world, rita):
    rita.keys = {"confirm": "j", "dismiss": ""}
    rita.save(update_fields=["keys"])
    page = desk.get(desk_of(world.findings[0]))
    assert "Confirm <kbd>j</kbd>" in page.text
    assert "Dismiss </button>" in page.text


# --- cost ------------------------------------------------------------------------------


def test_more_findings_cost_no_more_queries(desk, give, world, monkeypatch):
    first, second, third = world.findings
    monkeypatch.setattr("reviewapp.suggestions.SECONDS", 1e9)
    give(first)  # what is often said here is remembered
    with CaptureQueriesContext(connection) as before:
        assert desk.get(desk_of(second)).status_code == 200
    assert len(before) <= 20
    with CaptureQueriesContext(connection) as given_before:
        give(second)
    world.add_findings(30, true=0, predicted=2)
    world.add_findings(30, true=1, predicted=1)
    with CaptureQueriesContext(connection) as after:
        assert desk.get(desk_of(third)).status_code == 200
    assert len(after) == len(before)
    with CaptureQueriesContext(connection) as given_after:
        give(third)
    assert len(given_after) <= len(given_before) + 3  # a batch is handed out anew


# --- a browser that two people use ----------------------------------------------------


def test_what_waited_for_somebody_else_is_not_recorded(world, rita, lena, client_of):
    finding = world.findings[0]
    data = {"version": 0, "verdict": "confirm"}
    for client, status in ((client_of(lena), 401), (client_of(rita), 200)):
        headers = {**SCRIPT, "Hardmine-User": str(rita.pk)}
        answer = client.post(url("finding-decide", finding.pk), data, headers=headers)
        assert answer.status_code == status
    assert Review.objects.get().reviewer == rita
