"""The list of findings and one finding's page."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reviewapp.actions import reviews as actions
from reviewapp.models import Label, Sample, Standing, Verdict
from reviewapp.views.findings import PAGE_SIZE
from tests import factories
from tests.reviewing import decide


def url(name: str, *args: object) -> str:
    return reverse(name, args=["animals", *args])


@pytest.mark.parametrize("name", ["alice", "lena", "rita"])
@pytest.mark.parametrize("view", ["grid", "table"])
def test_every_member_sees_the_findings(world, client_of, name, view, request):
    client = client_of(request.getfixturevalue(name))
    page = client.get(url("finding-list"), {"view": view})
    assert page.context["page"].rows == world.findings
    assert page.context["count"] == "3"
    for finding in world.findings:
        assert url("finding-detail", finding.pk) in page.text
        image = [finding.pk, finding.digest, "grid"]
        assert url("finding-image", *image) in page.text
    assert ("<table" in page.text) == (view == "table")


def test_charlie_sees_nothing(world, charlie, client_of):
    client = client_of(charlie)
    assert client.get(url("finding-list")).status_code == 404
    address = url("finding-detail", world.findings[0].pk)
    assert client.get(address).status_code == 404


def test_a_finding_of_another_data_set_is_404(world, rita, client_of):
    other = factories.DatasetFactory(name="Second", slug="second")
    factories.MembershipFactory(user=rita, dataset=other)
    address = reverse("finding-detail", args=["second", world.findings[0].pk])
    assert client_of(rita).get(address).status_code == 404


def test_filters_narrow_the_list_and_follow_to_the_queue(world, rita, client_of):
    fox = world.add_findings(1, true=0, predicted=2)
    sent = {"predicted_label": world.labels[2].pk, "p_true_below": "0.5"}
    page = client_of(rita).get(url("finding-list"), sent)
    assert page.context["page"].rows == fox
    # "Review these": the same filter.
    assert page.context["queue_fields"] == {
        "predicted_label": str(world.labels[2].pk),
        "p_true_below": "0.5",
    }
    response = client_of(rita).post(url("review-next"), page.context["queue_fields"])
    assert url("review-finding", fox[0].pk) in response["Location"]


def test_a_filter_that_makes_no_sense_shows_nothing_and_says_why(
    world, rita, client_of
):
    page = client_of(rita).get(url("finding-list"), {"true_label": "0"})
    assert page.context["page"].rows == []
    assert "Select a valid choice" in page.text
    assert "No finding matches" in page.text


def test_pages_follow_each_other_without_gap_or_repeat(world, rita, client_of):
    world.add_findings(PAGE_SIZE)
    client = client_of(rita)
    first = client.get(url("finding-list"), {"kind": "misclassified"})
    query = first.context["next_query"]
    second = client.get(f"{url('finding-list')}?{query}")
    assert "kind=misclassified" in query
    rows = first.context["page"].rows + second.context["page"].rows
    assert rows == world.findings
    assert second.context["page"].next is None


def test_it_refuses_a_page_token_that_was_not_made_here(world, rita, client_of):
    response = client_of(rita).get(url("finding-list"), {"after": "forged"})
    assert response.status_code == 400
    assert "not valid any more" in response.text


def test_an_empty_list_says_what_to_do(dataset, rita, client_of):
    assert "No findings here" in client_of(rita).get(url("finding-list")).text


@pytest.fixture
def five(world):
    """One finding of each kind: waiting, back, confirmed, fixed, replaced."""
    states = [
        ("open", "seen"),
        ("open", "regressed"),
        ("confirmed", "seen"),
        ("confirmed", "fixed"),
        ("open", "superseded"),
    ]
    world.add_findings(2)
    for finding, (review, presence) in zip(world.findings, states, strict=True):
        finding.review_state, finding.presence = review, presence
        finding.save(update_fields=["review_state", "presence"])
    return world.findings


@pytest.mark.parametrize(
    ("sent", "shown", "kept"),
    [
        ({}, "present", [0, 1, 2]),
        ({"show": "made up"}, "present", [0, 1, 2]),
        ({"review_state": "", "presence": ""}, "present", [0, 1, 2]),
        ({"kind": "misclassified"}, "present", [0, 1, 2]),
        ({"show": "waiting"}, "waiting", [0, 1]),
        ({"show": "reviewed"}, "reviewed", [2, 3]),
        ({"show": "fixed"}, "fixed", [3]),
        ({"show": "everything"}, "everything", [0, 1, 2, 3, 4]),
        ({"review_state": "confirmed"}, "everything", [2, 3]),
        ({"presence": "superseded"}, "everything", [4]),
        ({"show": "present", "review_state": "confirmed"}, "present", [2]),
        ({"show": "fixed", "review_state": "dismissed"}, "fixed", []),
    ],
)
def test_it_opens_with_what_is_present_and_filters_compose(
    five, rita, client_of, sent, shown, kept
):
    page = client_of(rita).get(url("finding-list"), sent)
    assert page.context["page"].rows == [five[n] for n in kept]
    [marked] = re.findall(r'href="\?([^"]*)" aria-current="true"', page.text)
    assert f"show={shown}" in marked


def test_a_choice_keeps_the_filter_but_not_a_state(five, rita, client_of):
    sent = {"kind": "misclassified", "presence": "fixed", "after": ""}
    page = client_of(rita).get(url("finding-list"), sent)
    choices = {name: query for name, _, query in page.context["choices"]}
    assert choices["waiting"] == "kind=misclassified&show=waiting"
    assert '<input type="hidden" name="show" value="everything">' in page.text
    plain = client_of(rita).get(url("finding-list"))
    # A filter on presence must be free to ask for what is not present.
    assert 'name="show"' not in plain.text


@pytest.mark.parametrize(("show", "offered"), [("waiting", True), ("fixed", False)])
def test_only_what_may_wait_is_offered_for_review(five, rita, client_of, show, offered):
    page = client_of(rita).get(url("finding-list"), {"show": show})
    assert ("Review these" in page.text) == offered


@pytest.mark.parametrize("view", ["grid", "table"])
def test_30_findings_cost_no_more_queries_than_3(world, rita, client_of, view):
    client = client_of(rita)

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            client.get(url("finding-list"), {"view": view})
        return len(found)

    few = queries()
    world.add_findings(27, true=0, predicted=2)
    # session, user, data set, the choices of the menus (labels, models), which, rows
    assert queries() == few == 7


def test_the_page_of_a_finding_tells_its_story(world, rita, lena, client_of):
    first = world.findings[0]
    review = decide(
        finding=first,
        by=lena,
        verdict=Verdict.RELABEL,
        new_label=world.labels[1],
        version=0,
        causes=["label_wrong"],
        note="a <dog>",
    )
    actions.undo(review=review, by=lena)
    decide(finding=first, by=lena, verdict=Verdict.DISMISS, version=2)
    page = client_of(rita).get(url("finding-detail", first.pk))
    happened = [moment.what for moment in page.context["moments"]]
    assert happened[:3] == ["dismiss", "relabel undone", "relabel to dog"]
    assert any(
        what.startswith(f"seen by {world.scan} (resnet v1)") for what in happened
    )
    story = " ".join(page.text.split())
    assert "<s>relabel to dog</s> by lena, undone by lena" in story
    assert "<strong>dismiss</strong>" in page.text
    assert "p(true) 1.0 %" in page.text
    assert "label wrong" in page.text
    assert "a &lt;dog&gt;" in page.text


def test_a_label_that_was_corrected_shows_the_one_it_came_with(world, rita, client_of):
    first = world.findings[0]
    Sample.objects.filter(pk=first.sample_id).update(label=world.labels[2])
    page = client_of(rita).get(url("finding-detail", first.pk))
    assert "fox (came as cat)" in page.text


def test_more_sightings_and_reviews_cost_no_more_queries(world, rita, lena, client_of):
    first, client = world.findings[0], client_of(rita)

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            client.get(url("finding-detail", first.pk))
        return len(found)

    decide(finding=first, by=lena, verdict=Verdict.CONFIRM, version=0)
    few = queries()
    for version in range(1, 9):
        decide(finding=first, by=lena, verdict=Verdict.DISMISS, version=version)
        scan = factories.ScanFactory(model_version=world.scan.model_version)
        factories.SightingFactory(finding=first, scan=scan)
    assert queries() == few


def test_the_menus_keep_the_choice_and_escape_the_names(world, rita, client_of):
    Label.objects.filter(pk=world.labels[2].pk).update(name="<fox>")
    sent = {"true_label": world.labels[0].pk, "predicted_label": world.labels[2].pk}
    page = client_of(rita).get(url("finding-list"), sent)
    chosen = re.findall(r'<option value="(\d+)" selected>([^<]*)</option>', page.text)
    assert chosen == [
        (str(world.labels[0].pk), "cat"),
        (str(world.labels[2].pk), "&lt;fox&gt;"),
    ]
    menus = page.context["form"].fields
    assert menus["predicted_label"].widget.choices[0] == ("", "any")
    assert [text for _, text in menus["true_label"].widget.choices[1:]] == [
        "cat",
        "dog",
        "<fox>",
    ]


def test_a_cause_finds_what_a_standing_verdict_names(world, rita, lena, client_of):
    first, second, _ = world.findings
    kept = decide(finding=first, by=lena, verdict=Verdict.CONFIRM, causes=["pose"])
    review = decide(finding=second, by=lena, verdict=Verdict.CONFIRM, causes=["pose"])
    actions.undo(review=review, by=lena)
    page = client_of(rita).get(url("finding-list"), {"cause": "pose"})
    assert page.context["page"].rows == [kept.finding]
    other = client_of(rita).get(url("finding-list"), {"cause": "blur"})
    assert other.context["page"].rows == []
    assert "No finding matches" in other.text


def test_a_file_name_is_found_by_any_part_in_any_case(world, rita, client_of):
    first, second, _ = world.findings
    for finding, key in ((first, "Shelf/100%_A.jpg"), (second, "shelf/100xxA.jpg")):
        Sample.objects.filter(pk=finding.sample_id).update(key=key)

    def found(key: str, **sent: str) -> list[object]:
        page = client_of(rita).get(url("finding-list"), {"key": key, **sent})
        return page.context["page"].rows

    assert found("SHELF/100") == [first, second]
    assert found("100%_a") == [first]  # no wildcards
    assert found("Shelf/100%_A.jpg") == [first]  # its whole name
    assert found("Shelf/100%_A.jpg", show="fixed") == []
    assert found("shelf", show="waiting", kind="near_miss") == []


def test_pairs_are_exact(world):
    a, b, c = (label.pk for label in world.labels)
    for true, predicted in ((0, 2), (2, 0), (2, 1)):
        world.add_findings(1, true=true, predicted=predicted)
    standings = Standing.objects.of_pairs([(a, b), (c, a)])
    found = standings.values_list("true_label", "predicted_label").order_by(
        "true_label"
    )
    assert list(found) == [(a, b), (c, a)]
    assert not Standing.objects.of_pairs([]).exists()
