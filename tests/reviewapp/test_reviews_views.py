"""The desk without JavaScript: every decision works, and no verdict lands unseen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from reviewapp.actions import reviews as actions
from reviewapp.models import (
    Claim,
    Finding,
    Review,
    Sample,
    Skip,
    Undo,
    Verdict,
)
from tests import factories
from tests.reviewing import decide, queue_of


def url(name: str, *args: object) -> str:
    return reverse(name, args=["animals", *args])


def decide_url(finding: Finding, query: str = "") -> str:
    return f"{url('finding-decide', finding.pk)}{query}"


def sent(finding: Finding, verdict: str, **more: object) -> dict[str, object]:
    return {"version": finding.version, "verdict": verdict, **more}


def desk_of(finding: Finding) -> str:
    return url("review-finding", finding.pk)


@pytest.fixture
def desk(world, rita, client_of) -> Client:
    """Rita's client; nothing is claimed yet."""
    return client_of(rita)


def test_charlie_gets_404_everywhere(world, charlie, client_of):
    client, first = client_of(charlie), world.findings[0]
    for address in (url("review"), url("review-finding", first.pk)):
        assert client.get(address).status_code == 404
    for address in (
        url("review-next"),
        url("review-undo"),
        url("review-release"),
        url("finding-skip", first.pk),
        decide_url(first),
    ):
        response = client.post(address, sent(first, "confirm"))
        assert response.status_code == 404
    assert not Review.objects.exists()
    assert not Claim.objects.exists()
    assert not Skip.objects.exists()


def test_a_finding_of_another_data_set_is_404(world, rita, client_of):
    other = factories.DatasetFactory(name="Second", slug="second")
    factories.MembershipFactory(user=rita, dataset=other)
    address = reverse("review-finding", args=["second", world.findings[0].pk])
    assert client_of(rita).get(address).status_code == 404


def test_a_get_changes_nothing(desk, world):
    assert desk.get(desk_of(world.findings[0])).status_code == 200
    for name in ("review-next", "review-undo", "review-release"):
        assert desk.get(url(name)).status_code == 405
    assert not Claim.objects.exists()


def test_starting_claims_and_goes_to_the_hardest(desk, world):
    response = desk.post(url("review-next"), {"lane": ""})
    assert response["Location"] == desk_of(world.findings[0])
    page = desk.get(response["Location"])
    assert page.context["finding"] == world.findings[0]
    assert Claim.objects.count() == 3


def test_a_queue_keeps_to_its_confusion(desk, world):
    fox = world.add_findings(1, true=0, predicted=2)[0]
    fields = {
        "true_label": fox.true_label_id,
        "predicted_label": fox.predicted_label_id,
    }
    response = desk.post(url("review-next"), fields)
    assert urlsplit(response["Location"]).path == url("review-finding", fox.pk)
    assert parse_qs(urlsplit(response["Location"]).query) == {
        "true_label": [str(fox.true_label_id)],
        "predicted_label": [str(fox.predicted_label_id)],
    }
    assert desk.get(response["Location"]).context["queue"].title == "cat → fox, errors"


def test_near_misses_wait_until_asked_for(desk, world):
    near = world.add_findings(1, true=1, predicted=1)[0]
    assert desk.get(url("review")).context["free"] == 3
    response = desk.post(url("review-next"), {"lane": "near_miss"})
    page = desk.get(response["Location"])
    assert page.context["finding"] == near
    assert "rightly predicted" in page.text


def test_it_refuses_a_queue_of_another_data_sets_label(desk, world):
    label = factories.LabelFactory(dataset=factories.DatasetFactory(), name="secret")
    response = desk.post(url("review-next"), {"true_label": label.pk})
    assert response.status_code == 400
    assert "True label" in response.text
    assert "secret" not in response.text


# --- without JavaScript ------------------------------------------------------------


def test_confirm_records_and_goes_on(desk, world, rita):
    first, second, _ = world.findings
    data = sent(first, "confirm", causes=["pose", "blur"], note=" upside down ")
    # The menu of classes always sends a value; confirm does not look at it.
    data["new_label"] = first.predicted_label_id
    response = desk.post(decide_url(first), data)
    assert response["Location"] == desk_of(second)
    review = Review.objects.get()
    assert (review.verdict, review.reviewer, review.new_label) == (
        "confirm",
        rita,
        None,
    )
    assert (review.causes, review.note) == (["pose", "blur"], "upside down")
    page = desk.get(response["Location"])
    assert "Confirmed." in page.text
    progress = page.context["progress"]
    assert (progress.done, progress.left) == (1, 2)


def test_relabel_by_the_menu(desk, world):
    first = world.findings[0]
    fox = world.labels[2]
    response = desk.post(decide_url(first), sent(first, "relabel", new_label=fox.pk))
    assert response.status_code == 302
    assert Sample.objects.get(pk=first.sample_id).label == fox


def test_relabel_by_a_button_of_the_top_five(desk, world):
    first = world.findings[0]
    data = {"version": 0, "relabel_to": first.predicted_label_id, "new_label": ""}
    assert desk.post(decide_url(first), data).status_code == 302
    assert Sample.objects.get(pk=first.sample_id).label == first.predicted_label


def test_dismiss(desk, world):
    first = world.findings[0]
    desk.post(decide_url(first), sent(first, "dismiss", reason="duplicate"))
    first.refresh_from_db()
    assert first.review_state == "dismissed"
    assert Review.objects.get().reason == "duplicate"


def test_only_a_dismissal_takes_the_reason_of_the_menu(desk, world):
    first = world.findings[0]
    desk.post(decide_url(first), sent(first, "flag", reason="duplicate"))
    first.refresh_from_db()
    assert first.review_state == "flagged"
    assert Review.objects.get().reason == ""


def test_the_same_key_is_one_verdict(desk, world):
    first, second, _ = world.findings
    data = sent(first, "confirm", key="6f7f3d0e-3d0f-4e63-9d0a-1f1a53a5b001")
    for _ in range(2):
        response = desk.post(decide_url(first), data)
        assert response["Location"] == desk_of(second)
    assert Review.objects.count() == 1


def test_what_is_skipped_comes_back_at_the_end(desk, world):
    first, second, third = world.findings
    response = desk.post(url("finding-skip", first.pk))
    assert response["Location"] == desk_of(second)
    for finding in (second, third):
        response = desk.post(decide_url(finding), sent(finding, "confirm"))
    assert response["Location"] == url("review")
    page = desk.get(response["Location"])
    assert "Nothing is left for you in errors." in page.text
    assert (page.context["free"], page.context["skipped"]) == (0, 1)
    assert "Bring back the 1 you skipped" in page.text
    response = desk.post(url("review-next"), {"lane": "", "again": "1"})
    assert response["Location"] == desk_of(first)


def test_undo_goes_back_to_the_finding_and_holds_it(desk, world, rita):
    first = world.findings[0]
    dog = first.predicted_label
    desk.post(decide_url(first), sent(first, "relabel", new_label=dog.pk))
    response = desk.post(url("review-undo"))
    assert response["Location"] == desk_of(first)
    assert Undo.objects.count() == 1
    assert Sample.objects.get(pk=first.sample_id).label == first.true_label
    assert Claim.objects.get(finding=first).reviewer == rita
    page = desk.get(response["Location"])
    assert "Undone. Decide again." in page.text
    story = " ".join(page.text.split())
    assert "<s>relabel to dog</s> by rita, undone by rita" in story


def test_undo_without_a_verdict_says_so(desk, lena, world):
    # Another person's verdict is not ours to take back.
    decide(finding=world.findings[0], by=lena, verdict=Verdict.DISMISS, version=0)
    response = desk.post(url("review-undo"))
    assert response.status_code == 400
    assert "no verdict on Animals" in response.text
    assert not Undo.objects.exists()


def test_release_gives_back_what_is_held(desk, world, rita):
    desk.post(url("review-next"), {"lane": ""})
    assert "Give back the 3 you hold" in desk.get(url("review")).text
    response = desk.post(url("review-release"))
    assert response["Location"] == url("review")
    assert not Claim.objects.exists()


def test_a_page_that_is_left_gives_back_without_an_answer(desk, world):
    desk.post(url("review-next"), {"lane": ""})
    assert desk.post(url("review-release"), {"beacon": "1"}).status_code == 204
    assert not Claim.objects.exists()


# --- what is refused ---------------------------------------------------------------


def test_a_verdict_on_another_version_is_refused(desk, world, lena):
    first = world.findings[0]
    decide(finding=first, by=lena, verdict=Verdict.DISMISS, version=0)
    data = sent(first, "confirm", causes=["pose"], note="kept")
    response = desk.post(decide_url(first), data)
    assert response.status_code == 409
    assert "lena gave the verdict dismiss meanwhile." in response.text
    assert "Your verdict was not recorded." in response.text
    # The finding as it is now, with what was typed.
    assert '<input type="hidden" name="version" value="1">' in response.text
    assert 'value="pose" data-action="cause_pose" checked' in response.text
    assert ">kept</textarea>" in response.text
    assert Review.objects.count() == 1


def test_a_finding_that_another_holds_is_refused(desk, world, lena):
    first = world.findings[0]
    actions.claim(queue=queue_of(world.dataset), by=lena, limit=1)
    assert "lena is looking at this finding now" in desk.get(desk_of(first)).text
    response = desk.post(decide_url(first), sent(first, "confirm"))
    assert response.status_code == 409
    assert "lena is looking at this finding until" in response.text
    assert not Review.objects.exists()


def test_an_expired_hold_stops_nobody(desk, world, lena):
    first = world.findings[0]
    actions.claim(queue=queue_of(world.dataset), by=lena, limit=1)
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "is looking at this" not in desk.get(desk_of(first)).text
    response = desk.post(decide_url(first), sent(first, "confirm"))
    assert response.status_code == 302


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"version": "0"}, "Choose confirm, relabel, dismiss or flag."),
        ({"version": "0", "verdict": "maybe"}, "maybe"),
        ({"verdict": "confirm"}, "required"),
        ({"version": "0", "verdict": "relabel"}, "Choose the label that is right."),
        ({"version": "0", "verdict": "relabel", "new_label": "0"}, "valid choice"),
        ({"version": "0", "verdict": "relabel", "new_label": "²"}, "valid choice"),
        (
            {"version": "0", "verdict": "relabel", "new_label": "9" * 5000},
            "valid choice",
        ),
        ({"version": "0", "verdict": "confirm", "causes": ["mood"]}, "mood"),
        ({"version": "0", "verdict": "confirm", "note": "x" * 2001}, "2000"),
        ({"version": "0", "verdict": "dismiss", "reason": "boring"}, "boring"),
        ({"version": "0", "verdict": "confirm", "key": "17"}, "valid UUID"),
        ({"version": "0", "verdict": "confirm", "note": "a\0b"}, "Null"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(desk, world, data, said):
    response = desk.post(decide_url(world.findings[0]), data)
    assert response.status_code == 400
    assert said in response.text
    assert not Review.objects.exists()


def test_a_relabel_to_the_same_label_is_refused(desk, world):
    first = world.findings[0]
    data = sent(first, "relabel", new_label=first.true_label_id)
    response = desk.post(decide_url(first), data)
    assert response.status_code == 400
    assert "The label is cat already." in response.text


# --- concurrency ------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_reviewers_never_get_the_same_finding(world, rita, lena, alice, client_of):
    world.add_findings(27)
    clients = [client_of(person) for person in (rita, lena, alice)]

    def review_all(client: Client) -> int:
        given = 0
        try:
            response = client.post(url("review-next"), {"lane": ""})
            while response["Location"] != url("review"):
                path = urlsplit(response["Location"]).path
                response = client.post(
                    f"{path}decide/",
                    {"version": 0, "verdict": "confirm"},
                )
                assert response.status_code == 302  # never refused
                given += 1
        finally:
            connection.close()
        return given

    with ThreadPoolExecutor(3) as pool:
        given = list(pool.map(review_all, clients))
    assert sum(given) == 30
    assert Review.objects.values("finding").distinct().count() == 30
    assert not Finding.objects.waiting().exists()
