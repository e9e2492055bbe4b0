"""The queue page: lanes, orders, what is free, and how it stays cheap."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reviewapp.actions import reviews as actions
from reviewapp.models import Dataset, Finding, Standing
from tests import factories
from tests.reviewing import queue_of


def url(query: str = "") -> str:
    return reverse("review", args=["animals"]) + query


@pytest.fixture
def desk(rita, client_of) -> Client:
    return client_of(rita)


@pytest.fixture
def page_of(world, desk):
    return lambda query="": desk.get(url(query))


@pytest.mark.parametrize("name", ["alice", "lena", "rita"])
def test_every_member_sees_the_queue(world, client_of, name, request):
    page = client_of(request.getfixturevalue(name)).get(url())
    assert page.context["free"] == 3
    assert "Start reviewing" in page.text
    assert [(row.standing.waiting, row.share) for row in page.context["rows"]] == [
        (3, 1.0)
    ]


def test_each_lane_is_a_tab_with_what_waits(page_of, world):
    world.add_findings(2, true=1, predicted=1)
    page = page_of()
    assert [(tab.name, tab.waiting) for tab in page.context["tabs"]] == [
        ("", 3),
        ("label", None),
        ("model", None),
        ("near_miss", 2),
    ]
    near = page_of("?lane=near_miss")
    assert near.context["free"] == 2
    assert [row.standing.true_label.name for row in near.context["rows"]] == ["dog"]
    assert "Right, but unsure" in near.text


def test_the_lanes_part_the_errors(page_of, world):
    Standing.objects.update(label_from=0.9)
    Finding.objects.filter(pk=world.findings[1].pk).update(confidence=0.95)
    assert page_of("?lane=label").context["free"] == 1
    assert page_of("?lane=model").context["free"] == 2


def test_the_order_is_kept_in_every_form(page_of):
    page = page_of("?order=newest")
    assert '<option value="newest" selected>' in page.text
    assert '<input type="hidden" name="order" value="newest">' in page.text
    rows = re.findall(r'(?:formaction|href)="(\S*?)\?(true_label=\S*?)"', page.text)
    assert [path.rsplit("/", 2)[1] for path, _ in rows] == ["next", "grid"]
    assert all(query.endswith("&amp;order=newest") for _, query in rows)
    assert 'value="learned"' not in page.text


@pytest.mark.parametrize("written", ["{}", " {} ", "{}\u2003", "+{}"])
def test_a_confusion_is_named_by_whatever_a_form_reads_as_its_number(
    desk, world, written
):
    cat = str(world.labels[0].pk)
    arabic = cat.translate({ord(str(n)): 0x660 + n for n in range(10)})
    for number in (cat, arabic):
        sent = {"true_label": written.format(number)}
        answer = desk.post(reverse("review-next", args=["animals"]), sent)
        assert answer.url.endswith(f"/{world.findings[0].pk}/?true_label={cat}")


def test_the_button_of_a_row_goes_through_its_confusion(
    page_of, world, rita, client_of
):
    (other,) = world.add_findings(1, true=0, predicted=2)
    page = page_of("?order=newest").text
    _, address = re.findall(r'formaction="(\S*?)"', page)
    response = client_of(rita).post(unescape(address))
    fields = (
        f"true_label={other.true_label_id}&predicted_label={other.predicted_label_id}"
    )
    desk = reverse("review-finding", args=["animals", other.pk])
    assert response.url == f"{desk}?{fields}&order=newest"


def test_a_learned_order_is_offered_and_says_how_much_better(page_of, world):
    weights = {"intercept": 0.0, "scores": {}}
    factories.RankerFactory(registered_model=world.model, weights=weights)
    page = page_of()
    assert 'value="learned"' in page.text
    assert "350 verdicts say more than the plain order" in page.text
    assert "average precision 0.81 against 0.74. Used." in page.text


def test_it_refuses_an_order_that_there_is_not(page_of):
    response = page_of("?order=alphabet")
    assert response.status_code == 400
    assert "There is no order" in response.text


def test_others_that_hold_findings_are_named(page_of, world, lena):
    actions.claim(queue=queue_of(world.dataset), by=lena, limit=2)
    page = page_of()
    assert page.context["holders"] == {"lena": 2}
    assert page.context["free"] == 1


def test_an_empty_queue_says_what_to_do(rita, dataset: Dataset, client_of):
    assert "Nothing waits for a verdict" in client_of(rita).get(url()).text


def test_more_findings_cost_no_more_queries(page_of, world):
    with CaptureQueriesContext(connection) as before:
        assert page_of().status_code == 200
    world.add_findings(30, true=0, predicted=2)
    world.add_findings(30, true=1, predicted=1)
    with CaptureQueriesContext(connection) as after:
        assert page_of().status_code == 200
    assert len(after) == len(before)
