"""The grid over HTTP, with and without a script."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.urls import reverse

from reviewapp.actions.reviews import hold
from reviewapp.models import (
    Claim,
    Finding,
    Lookalike,
    Review,
    Skip,
    Standing,
    Verdict,
)
from tests.conftest import World
from tests.reviewing import decide

SCRIPT = {"HTTP_HARDMINE_DESK": "1"}


@pytest.fixture
def rita_at(client_of, rita):
    return client_of(rita)


def url(name: str, *args: object, query: str = "") -> str:
    return f"{reverse(name, args=['animals', *args])}{query}"


def selection(*findings: Finding) -> list[str]:
    return [f"{finding.pk}:{finding.version}" for finding in findings]


def test_a_get_shows_what_is_held_and_takes_nothing(world, rita, rita_at):
    page = rita_at.get(url("review-grid"))
    assert page.context["tiles"] == []
    assert "Show the next 50" in page.content.decode()
    assert not Claim.objects.exists()
    hold(findings=[world.findings[1].pk], by=rita)
    page = rita_at.get(url("review-grid"))
    assert [tile.finding for tile in page.context["tiles"]] == [world.findings[1]]


def test_a_batch_is_taken_in_the_order_of_the_queue(world, rita, rita_at):
    world.add_findings(9)
    response = rita_at.post(
        url("review-grid-next", query="?order=hardest"), {"size": "10"}
    )
    assert response.url == url("review-grid", query="?order=hardest&size=10")
    page = rita_at.get(response.url)
    assert [tile.finding for tile in page.context["tiles"]] == world.findings[:10]
    assert page.context["left_said"] == "12 left for you"
    assert Claim.objects.filter(reviewer=rita).count() == 10


def test_a_form_may_carry_the_queue(world, rita_at):
    response = rita_at.post(
        url("review-grid-next"), {"size": "25", "order": "newest", "csrf": "x"}
    )
    assert response.url == url("review-grid", query="?order=newest&size=25")


def test_a_script_gets_the_tiles_alone(world, rita_at):
    answer = rita_at.post(url("review-grid-next"), {"size": "10"}, **SCRIPT).json()
    assert answer["html"].count('class="tile"') == 3
    assert "<body" not in answer["html"]
    assert answer["said"] == ""


def test_another_reviewer_gets_none_of_it(world, rita_at, client_of, lena):
    rita_at.post(url("review-grid-next"), {"size": "10"})
    answer = client_of(lena).post(url("review-grid-next"), {"size": "10"}, **SCRIPT)
    assert answer.json()["html"].strip() == ""
    assert answer.json()["said"] == "Nothing is left for you in errors."


def test_tiles_tell_the_lane(world, rita, rita_at):
    Standing.objects.update(label_from=0.8)
    world.findings[0].confidence = 0.79
    world.findings[0].save()
    hold(findings=[finding.pk for finding in world.findings], by=rita)
    tiles = rita_at.get(url("review-grid")).context["tiles"]
    assert [tile.mark for tile in tiles] == ["model", "label?", "label?"]


def test_a_near_miss_has_no_other_mark(world, rita, rita_at):
    (near,) = world.add_findings(1, predicted=0)
    hold(findings=[near.pk], by=rita)
    page = rita_at.get(url("review-grid", query="?lane=near_miss"))
    assert [tile.mark for tile in page.context["tiles"]] == [""]
    assert "cat, near miss" in page.content.decode()


def test_a_verdict_with_a_script_answers_what_became_of_each(world, lena, rita_at):
    held = world.findings[0]
    hold(findings=[held.pk], by=lena)
    answer = rita_at.post(
        url("review-grid-decide"),
        {"finding": selection(*world.findings), "verdict": "confirm", "key": uuid4()},
        **SCRIPT,
    ).json()
    assert answer["decided"] == [finding.pk for finding in world.findings[1:]]
    assert list(answer["refused"]) == [str(held.pk)]
    assert answer["said"] == "2 confirmed. 1 refused, nothing was recorded there."
    assert "html" not in answer


def test_the_last_verdict_of_a_batch_brings_the_next(world, rita_at):
    more = world.add_findings(2)
    answer = rita_at.post(
        url("review-grid-decide"),
        {
            "finding": selection(*world.findings[:3]),
            "verdict": "dismiss",
            "reason": "duplicate",
            "next": "1",
            "size": "10",
        },
        **SCRIPT,
    ).json()
    for finding in more:
        assert f'data-id="{finding.pk}"' in answer["html"]
    assert set(Review.objects.values_list("reason", flat=True)) == {"duplicate"}


def test_what_belongs_to_another_verdict_is_left_out(world, labels, rita_at):
    rita_at.post(
        url("review-grid-decide"),
        {
            "finding": selection(world.findings[0]),
            "verdict": "confirm",
            "new_label": labels[2].pk,
            "reason": "ambiguous",
        },
        **SCRIPT,
    )
    review = Review.objects.get()
    assert (review.verdict, review.new_label, review.reason) == ("confirm", None, "")


def test_without_a_script_it_says_what_happened_and_goes_on(world, rita, rita_at):
    world.add_findings(1)
    hold(findings=[f.pk for f in world.findings[:3]], by=rita)
    response = rita_at.post(
        url("review-grid-decide"),
        {
            "finding": selection(*world.findings[:3]),
            "verdict": "confirm",
            "size": "10",
        },
        follow=True,
    )
    assert "3 confirmed." in response.content.decode()
    assert [t.finding for t in response.context["tiles"]] == world.findings[3:]


def test_skipping_puts_them_off(world, rita, rita_at):
    answer = rita_at.post(
        url("review-grid-decide"),
        {"finding": selection(*world.findings[:2]), "verdict": "skip"},
        **SCRIPT,
    ).json()
    assert answer["said"] == "2 skipped; they come back at the end."
    assert Skip.objects.filter(reviewer=rita).count() == 2
    assert not Review.objects.exists()


def test_undo_brings_them_back_selected_and_held(world, rita, rita_at):
    rita_at.post(
        url("review-grid-decide"),
        {"finding": selection(*world.findings), "verdict": "dismiss"},
        **SCRIPT,
    )
    answer = rita_at.post(url("review-grid-undo"), **SCRIPT).json()
    assert answer["said"] == "3 undone. Decide again."
    assert answer["before"].count(" checked>") == 3
    assert f'value="{world.findings[0].pk}:2"' in answer["before"]
    assert Claim.objects.filter(reviewer=rita).count() == 3


def test_nothing_to_undo_is_said(world, rita_at):
    refused = rita_at.post(url("review-grid-undo"), **SCRIPT)
    assert refused.status_code == 400
    assert b"no verdict on Animals that could be undone" in refused.content
    page = rita_at.post(url("review-grid-undo"), follow=True)
    assert b"no verdict on Animals that could be undone" in page.content


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Nothing is selected"),
        ({"finding": ["12"]}, "12 names no finding"),
        ({"finding": ["1:²"]}, "names no finding"),
        ({"finding": [f"1:{10**12}"]}, "names no finding"),
        ({"finding": ["1:0"], "verdict": "shred"}, "shred"),
        ({"finding": ["1:0"], "verdict": "relabel", "new_label": "0"}, "no such class"),
        ({"finding": ["1:0"], "key": "once"}, "UUID"),
        ({"finding": [f"{n}:0" for n in range(1, 502)]}, "501 findings are too many"),
        ({"finding": ["1:0"], "note": "x" * 2001}, "2000"),
    ],
)
def test_nonsense_is_refused_and_nothing_recorded(world, rita_at, fields, said):
    body = {"verdict": "confirm", **fields}
    answer = rita_at.post(url("review-grid-decide"), body, **SCRIPT)
    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert "Nothing was recorded" in answer.content.decode()
    assert not Review.objects.exists()


def test_relabel_without_a_label_is_refused_for_each(world, rita_at):
    answer = rita_at.post(
        url("review-grid-decide"),
        {"finding": selection(world.findings[0]), "verdict": "relabel"},
        **SCRIPT,
    ).json()
    assert list(answer["refused"].values()) == ["Choose the label that is right."]


def test_a_size_that_is_not_offered_is_the_usual_one(world, rita_at):
    assert rita_at.get(url("review-grid", query="?size=9000")).context["size"] == 50


def test_a_grid_of_a_hundred_takes_as_many_queries_as_one_of_three(
    world, rita, rita_at, django_assert_max_num_queries
):
    world.add_findings(100)
    hold(findings=[f.pk for f in world.findings], by=rita)
    # Session, person, data set, its labels and models for the filter, held findings,
    # standings, and two or three for what is left.
    with django_assert_max_num_queries(13):
        page = rita_at.get(url("review-grid", query="?size=100"))
    assert len(page.context["tiles"]) == 100


def twins(world: World, *, true: int = 0) -> list[Finding]:
    """Two more findings whose images look like that of the first one."""
    made = world.add_findings(2, true=true)
    sample = world.findings[0].sample
    for distance, finding in enumerate(made, start=1):
        Lookalike.objects.create(
            dataset=world.dataset,
            sample=sample,
            other=finding.sample,
            distance=distance,
        )
    return made


def test_lookalikes_get_the_verdict_with_its_causes_as_one(
    world, rita, rita_at, labels
):
    made = twins(world)
    review = decide(
        finding=world.findings[0],
        by=rita,
        verdict=Verdict.RELABEL,
        new_label=labels[2],
        causes=["label_wrong"],
    )
    answer = rita_at.post(
        url("review-alike", review.pk),
        {"finding": selection(*made), "key": uuid4()},
        **SCRIPT,
    )
    assert answer.json() == {"said": "2 relabelled."}
    for finding in made:
        (given,) = finding.reviews.all()
        assert (given.new_label, given.causes) == (labels[2], ["label_wrong"])
    assert finding.reviews.get().batch not in (None, review.batch)


def test_lookalikes_follow_no_verdict_of_others_or_undone(world, rita, lena, rita_at):
    made = twins(world)
    hers = decide(finding=world.findings[0], by=lena, verdict=Verdict.CONFIRM)
    body = {"finding": selection(*made)}
    assert rita_at.post(url("review-alike", hers.pk), body).status_code == 404
    assert not Review.objects.filter(finding__in=made).exists()


def test_lookalikes_without_a_script(world, rita, rita_at):
    made = twins(world)
    review = decide(finding=world.findings[0], by=rita, verdict=Verdict.DISMISS)
    page = rita_at.post(
        url("review-alike", review.pk), {"finding": selection(*made)}, follow=True
    )
    assert "2 dismissed." in page.content.decode()
