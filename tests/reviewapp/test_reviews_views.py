"""The desk: every decision works without JavaScript, and no verdict lands unseen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from reviewapp.actions import reviews as actions
from reviewapp.models import (
    Claim,
    Dataset,
    Finding,
    Review,
    Sample,
    Skip,
    Undo,
    Verdict,
)
from tests import factories

HTMX = {"HX-Request": "true"}


def url(name: str, *args: object) -> str:
    return reverse(name, args=["animals", *args])


def decide_url(finding: Finding, query: str = "kind=misclassified") -> str:
    return f"{url('finding-decide', finding.pk)}?{query}"


def sent(finding: Finding, verdict: str, **more: object) -> dict[str, object]:
    return {"version": finding.version, "verdict": verdict, **more}


def desk_of(finding: Finding) -> str:
    return f"{url('review-finding', finding.pk)}?kind=misclassified"


@pytest.fixture
def desk(world, rita, client_of) -> Client:
    """Rita's client; nothing is claimed yet."""
    return client_of(rita)


@pytest.mark.parametrize("name", ["alice", "lena", "rita"])
def test_every_member_sees_the_queue(world, client_of, name, request):
    client = client_of(request.getfixturevalue(name))
    page = client.get(url("review"))
    assert page.context["errors"] == 3
    assert page.context["free"] == 3
    assert "Start reviewing" in page.text


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
    response = desk.post(url("review-next"), {"kind": "misclassified"})
    assert response["Location"] == desk_of(world.findings[0])
    page = desk.get(response["Location"])
    assert page.context["finding"] == world.findings[0]
    # The images of what is held besides are loaded already.
    assert page.context["upcoming"] == world.findings[1:]
    assert page.text.count('rel="preload"') == 2


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
        "kind": ["misclassified"],
    }
    assert desk.get(response["Location"]).context["queue"].title == "cat → fox, errors"


def test_near_misses_wait_until_asked_for(desk, world):
    near = world.add_findings(1, true=1, predicted=1)[0]
    index = desk.get(url("review"))
    assert (index.context["errors"], index.context["near"]) == (3, 1)
    response = desk.post(url("review-next"), {"kind": "near_miss"})
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
    assert (page.context["done"], page.context["left"]) == (1, 2)


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


def test_the_prediction_is_chosen_beforehand(desk, world):
    page = desk.get(desk_of(world.findings[0]))
    assert page.context["proposed"] == world.labels[1].pk
    assert f'<option value="{world.labels[1].pk}" selected>dog</option>' in page.text
    assert ">cat</option>" not in page.text


def test_a_near_miss_proposes_the_second_guess(desk, world):
    near = world.add_findings(1, true=1, predicted=1)[0]
    near.sightings.update(top_labels=[world.labels[1].pk, world.labels[2].pk])
    page = desk.get(url("review-finding", near.pk))
    assert page.context["proposed"] == world.labels[2].pk


def test_dismiss(desk, world):
    first = world.findings[0]
    desk.post(decide_url(first), sent(first, "dismiss"))
    first.refresh_from_db()
    assert first.review_state == "dismissed"


def test_what_is_skipped_comes_back_at_the_end(desk, world):
    first, second, third = world.findings
    query = "?kind=misclassified"
    response = desk.post(url("finding-skip", first.pk) + query)
    assert response["Location"] == desk_of(second)
    for finding in (second, third):
        response = desk.post(decide_url(finding), sent(finding, "confirm"))
    assert response["Location"] == url("review") + query
    page = desk.get(response["Location"])
    assert "Nothing is left for you in errors." in page.text
    assert (page.context["free"], page.context["skipped"]) == (0, 1)
    assert "Bring back the 1 you skipped" in page.text
    response = desk.post(url("review-next"), {"kind": "misclassified", "again": "1"})
    assert response["Location"] == desk_of(first)


def test_undo_goes_back_to_the_finding_and_holds_it(desk, world, rita):
    first = world.findings[0]
    dog = first.predicted_label
    desk.post(decide_url(first), sent(first, "relabel", new_label=dog.pk))
    response = desk.post(url("review-undo") + "?kind=misclassified")
    assert response["Location"] == desk_of(first)
    assert Undo.objects.count() == 1
    assert Sample.objects.get(pk=first.sample_id).label == first.true_label
    assert Claim.objects.get(finding=first).reviewer == rita
    page = desk.get(response["Location"])
    assert "Undone: relabel." in page.text
    story = " ".join(page.text.split())
    assert "<s>relabel to dog</s> by rita, undone by rita" in story


def test_undo_without_a_verdict_says_so(desk, lena, world):
    # Another person's verdict is not ours to take back.
    actions.decide(
        finding=world.findings[0], by=lena, verdict=Verdict.DISMISS, version=0
    )
    response = desk.post(url("review-undo"))
    assert response.status_code == 400
    assert "no verdict on Animals" in response.text
    assert not Undo.objects.exists()


def test_release_gives_back_what_is_held(desk, world, rita):
    desk.post(url("review-next"), {"kind": "misclassified"})
    assert "Give back the 3 you hold" in desk.get(url("review")).text
    response = desk.post(url("review-release") + "?kind=misclassified")
    assert response["Location"] == url("review") + "?kind=misclassified"
    assert not Claim.objects.exists()


def test_a_page_that_is_left_gives_back_without_an_answer(desk, world):
    desk.post(url("review-next"), {"kind": "misclassified"})
    assert desk.post(url("review-release"), {"beacon": "1"}).status_code == 204
    assert not Claim.objects.exists()


# --- with htmx: one request for a verdict ----------------------------------------------


def test_one_request_decides_and_brings_the_next(desk, world):
    first, second, _ = world.findings
    response = desk.post(decide_url(first), sent(first, "confirm"), headers=HTMX)
    assert response.status_code == 200
    assert response["HX-Push-Url"] == desk_of(second)
    assert response.text.lstrip().startswith('<article class="desk" id="desk"')
    assert second.sample.key in response.text
    assert "Confirmed." in response.text
    assert "2 left. Undo: u. Now: cat → dog." in response.text
    assert "<html" not in response.text


def test_the_end_of_the_queue_leaves_the_desk(desk, world):
    for finding in world.findings:
        response = desk.post(
            decide_url(finding), sent(finding, "confirm"), headers=HTMX
        )
    assert response["HX-Redirect"] == url("review") + "?kind=misclassified"


def test_undo_brings_the_desk_back(desk, world):
    first = world.findings[0]
    desk.post(decide_url(first), sent(first, "dismiss"))
    response = desk.post(url("review-undo") + "?kind=misclassified", headers=HTMX)
    assert response["HX-Push-Url"] == desk_of(first)
    assert "Undone: dismiss." in response.text


@pytest.mark.parametrize("headers", [HTMX, {}], ids=["htmx", "plain"])
def test_a_verdict_on_another_version_is_refused(desk, world, lena, headers):
    first = world.findings[0]
    actions.decide(finding=first, by=lena, verdict=Verdict.DISMISS, version=0)
    data = sent(first, "confirm", causes=["pose"], note="kept")
    response = desk.post(decide_url(first), data, headers=headers)
    assert response.status_code == 409
    assert "lena gave the verdict dismiss meanwhile." in response.text
    assert "Your verdict was not recorded." in response.text
    # The finding as it is now, with what was typed.
    assert '<input type="hidden" name="version" value="1">' in response.text
    assert 'value="pose" data-key="p" checked' in response.text
    assert ">kept</textarea>" in response.text
    assert Review.objects.count() == 1
    if headers:
        assert response["HX-Retarget"] == "#desk"
        assert response["HX-Reswap"] == "outerHTML"
        assert response["HX-Reselect"] == "unset"
        assert "<html" not in response.text


def test_a_finding_that_another_holds_is_refused(desk, world, lena):
    first = world.findings[0]
    actions.claim(queue=Finding.objects.for_dataset(world.dataset), by=lena, limit=1)
    assert "lena is looking at this finding now" in desk.get(desk_of(first)).text
    response = desk.post(decide_url(first), sent(first, "confirm"), headers=HTMX)
    assert response.status_code == 409
    assert "lena is looking at this finding until" in response.text
    assert not Review.objects.exists()


def test_an_expired_hold_stops_nobody(desk, world, lena):
    first = world.findings[0]
    actions.claim(queue=Finding.objects.for_dataset(world.dataset), by=lena, limit=1)
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "is looking at this" not in desk.get(desk_of(first)).text
    response = desk.post(decide_url(first), sent(first, "confirm"), headers=HTMX)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"version": "0"}, "Choose confirm, relabel or dismiss."),
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


# --- what the desk says ------------------------------------------------------------------


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
    review = actions.decide(finding=first, by=lena, verdict=Verdict.CONFIRM, version=0)
    Finding.objects.filter(pk=first.pk).update(
        review_state="open", reopened_because="the image changed since it was confirmed"
    )
    page = desk.get(desk_of(first))
    assert "Asked again: the image changed since it was confirmed." in page.text
    assert "<strong>confirm</strong>" in page.text
    assert page.context["reviews"] == [review]


def test_a_relabelled_finding_takes_no_further_verdict(desk, world, lena):
    first = world.findings[0]
    actions.decide(
        finding=first,
        by=lena,
        verdict=Verdict.RELABEL,
        new_label=world.labels[1],
        version=0,
    )
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


def test_others_that_hold_findings_are_named(desk, world, lena):
    actions.claim(queue=Finding.objects.for_dataset(world.dataset), by=lena, limit=2)
    page = desk.get(url("review"))
    assert page.context["holders"] == {"lena": 2}
    assert page.context["free"] == 1


def test_an_empty_queue_says_what_to_do(rita, dataset: Dataset, client_of):
    page = client_of(rita).get(url("review"))
    assert "Nothing waits for a verdict" in page.text


# --- cost and concurrency ------------------------------------------------------------------


def queries(client: Client, address: str) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as found:
        assert client.get(address).status_code == 200
    return [query["sql"] for query in found]


@pytest.mark.parametrize("page", ["queue", "desk"])
def test_more_findings_cost_no_more_queries(desk, world, rita, page):
    address = url("review") if page == "queue" else desk_of(world.findings[0])
    before = queries(desk, address)
    world.add_findings(30, true=0, predicted=2)
    world.add_findings(30, true=1, predicted=1)
    actions.claim(queue=Finding.objects.for_dataset(world.dataset), by=rita, limit=20)
    # session, user, data set, then the page's own
    assert len(queries(desk, address)) == len(before)


@pytest.mark.django_db(transaction=True)
def test_two_reviewers_never_get_the_same_finding(world, rita, lena, alice, client_of):
    world.add_findings(27)
    clients = [client_of(person) for person in (rita, lena, alice)]

    def review_all(client: Client) -> int:
        given = 0
        try:
            response = client.post(url("review-next"), {"kind": "misclassified"})
            while "/review/?" not in response["Location"]:
                path = urlsplit(response["Location"]).path
                response = client.post(
                    f"{path}decide/?kind=misclassified",
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
