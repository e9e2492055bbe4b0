"""Opinions that are taken back, voided or repeated."""

from __future__ import annotations

import pytest

from reviewapp.actions.opinions import (
    take_back,
    take_back_last,
)
from reviewapp.exceptions import NotAllowed, Refused
from reviewapp.models import (
    Opinion,
    Verdict,
)
from tests.reviewapp.test_opinions import (
    KEY,
    State,
    bob,
    fresh,
    give,
    overlap,
)

__all__ = ["bob"]


def test_an_opinion_is_taken_back(world, rita, bob):
    overlap(world.dataset, 2)
    finding = world.findings[0]
    give(finding, rita)
    assert take_back_last(dataset=world.dataset, by=rita) == finding
    assert not Opinion.objects.exists()
    give(finding, rita, Verdict.DISMISS)
    assert give(finding, bob, Verdict.DISMISS).review is not None


def test_taking_an_opinion_back_ends_a_dispute(world, rita, bob):
    overlap(world.dataset, 2)
    finding = world.findings[0]
    give(finding, rita)
    given = give(finding, bob, Verdict.DISMISS)
    take_back(kind="opinion", pk=given.pk, by=bob)
    assert fresh(finding).review_state == State.OPEN
    assert give(finding, bob).review is not None  # rita's opinion counts still


def test_the_last_ones_undo_leaves_the_others_opinions(world, rita, bob):
    overlap(world.dataset, 2)
    finding = world.findings[0]
    first = give(finding, rita)
    give(finding, bob)
    with pytest.raises(Refused, match="together with others"):
        take_back(kind="opinion", pk=first.pk, by=rita)
    take_back_last(dataset=world.dataset, by=bob)
    now = fresh(finding)
    assert now.review_state == State.OPEN
    assert [o.reviewer for o in Opinion.objects.valid_for(now)] == [rita]
    given = give(finding, bob, Verdict.DISMISS, version=now.version)
    assert given.review is None
    assert fresh(finding).review_state == State.DISPUTED


def test_nobody_takes_back_what_is_not_theirs(world, rita, bob):
    overlap(world.dataset, 2)
    opinion = give(world.findings[0], rita)
    overlap(world.dataset, 1)
    review = give(world.findings[1], rita)
    for given in (opinion, review):
        with pytest.raises(NotAllowed):
            take_back(kind=given.kind, pk=given.pk, by=bob)
    with pytest.raises(NotAllowed):
        take_back(kind="attempt", pk=1, by=bob)
    with pytest.raises(Refused, match="no verdict"):
        take_back_last(dataset=world.dataset, by=bob)


def test_a_flag_is_for_somebody_else(world, rita, bob):
    finding = world.findings[0]
    give(finding, rita, Verdict.FLAG, note="a fox?")
    assert fresh(finding).review_state == State.FLAGGED
    with pytest.raises(NotAllowed, match="You flagged"):
        give(finding, rita, version=1)
    given = give(finding, bob, version=1)
    assert given.kind == "review"
    assert fresh(finding).review_state == State.CONFIRMED


def test_a_retry_of_a_flag_is_no_refusal(world, rita):
    first = give(world.findings[0], rita, Verdict.FLAG, key=KEY)
    assert give(world.findings[0], rita, Verdict.FLAG, key=KEY) == first
