"""Which findings are offered the same verdict."""

from __future__ import annotations

import pytest

from reviewapp.actions.reviews import hold
from reviewapp.lookalikes import offer_for, waiting_like
from reviewapp.models import Finding, Lookalike, Verdict
from tests import factories
from tests.conftest import World
from tests.reviewing import decide


def pair_up(world: World, one: Finding, other: Finding, distance: int = 0) -> None:
    Lookalike.objects.create(
        dataset=world.dataset,
        sample=one.sample,
        other=other.sample,
        distance=distance,
    )


@pytest.fixture
def alike(world) -> World:
    """The second and third look like the first one, the third more so."""
    first, second, third = world.findings
    pair_up(world, first, second, 3)
    pair_up(world, first, third, 0)
    return world


def test_the_most_alike_come_first(alike, rita):
    first, second, third = alike.findings
    assert waiting_like(first, rita) == [third, second]
    assert waiting_like(first, rita, limit=1) == [third]
    assert waiting_like(second, rita) == []


def test_what_is_decided_or_held_by_others_is_left_out(alike, rita, lena):
    first, second, third = alike.findings
    decide(finding=second, by=lena, verdict=Verdict.CONFIRM)
    hold(findings=[third.pk], by=lena)
    assert waiting_like(first, rita) == []
    assert waiting_like(first, lena) == [third]


def test_a_dismissal_is_offered_to_any(alike, labels, rita):
    first = alike.findings[0]
    (fox,) = alike.add_findings(1, true=2)
    pair_up(alike, first, fox, 1)
    review = decide(finding=first, by=rita, verdict=Verdict.DISMISS)
    offer = offer_for(review, rita)
    assert offer is not None
    assert fox in offer.findings
    assert offer.verdict == "dismiss"


def test_confirming_says_nothing_of_another_label(alike, rita):
    first = alike.findings[0]
    (fox,) = alike.add_findings(1, true=2)
    (cat,) = alike.add_findings(1, predicted=2)
    pair_up(alike, first, fox, 1)
    pair_up(alike, first, cat, 1)
    review = decide(finding=first, by=rita, verdict=Verdict.CONFIRM)
    offer = offer_for(review, rita)
    assert offer is not None
    assert cat in offer.findings
    assert fox not in offer.findings


def test_a_new_label_is_offered_to_the_same_confusion_alone(alike, labels, rita):
    first, second, third = alike.findings
    (other,) = alike.add_findings(1, predicted=2)
    pair_up(alike, first, other, 0)
    review = decide(
        finding=first, by=rita, verdict=Verdict.RELABEL, new_label=labels[1]
    )
    offer = offer_for(review, rita)
    assert offer is not None
    assert offer.findings == [third, second]
    assert offer.verdict == "relabel to dog"


def test_nothing_alike_is_no_offer(world, rita):
    review = decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    assert offer_for(review, rita) is None


def test_findings_of_the_same_image_are_not_offered(world, labels, rita):
    first = world.findings[0]
    factories.FindingFactory(
        sample=first.sample, predicted_label=labels[2], registered_model=world.model
    )
    assert waiting_like(first, rita) == []
