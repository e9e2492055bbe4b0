"""Whether the rest of a queue is worth it."""

from __future__ import annotations

import pytest

from reviewapp.actions.reviews import undo
from reviewapp.models import Verdict
from reviewapp.worth import worth_of
from tests.reviewing import decide, queue_of


def pair_queue(world, true=0, predicted=1):
    return queue_of(
        world.dataset,
        true_label=str(world.labels[true].pk),
        predicted_label=str(world.labels[predicted].pk),
    )


def give(world, n, by, verdict, **fields):
    made = world.add_findings(n)
    return [decide(finding=one, by=by, verdict=verdict, **fields) for one in made]


def test_nothing_is_known_before_the_first_verdict(world, rita):
    worth = worth_of(world.dataset, rita, pair_queue(world))
    assert (worth.useful, worth.of, worth.says) == (0, 0, "")


def test_useful_verdicts_of_the_last_fifty_with_wilsons_interval(world, rita):
    give(world, 5, rita, Verdict.CONFIRM)  # older than the last fifty
    give(world, 41, rita, Verdict.DISMISS)
    give(world, 5, rita, Verdict.CONFIRM)
    give(world, 4, rita, Verdict.RELABEL, new_label=world.labels[2])
    give(world, 3, rita, Verdict.FLAG)  # says neither
    worth = worth_of(world.dataset, rita, pair_queue(world))
    assert (worth.useful, worth.of) == (9, 50)
    assert (worth.low, worth.high) == pytest.approx((0.0977, 0.3080), abs=1e-4)
    assert not worth.is_low  # 0.3080 is not below 0.3
    give(world, 1, rita, Verdict.DISMISS)
    worth = worth_of(world.dataset, rita, pair_queue(world))
    assert worth.useful == 9


def test_it_says_when_the_rest_is_hardly_worth_it_and_where_to_go(
    world, rita, lena, django_assert_num_queries
):
    give(world, 10, rita, Verdict.DISMISS)
    world.add_findings(2, true=1, predicted=2)
    world.add_findings(30, true=0, predicted=2)  # more than this confusion has
    queue = pair_queue(world)
    # the newest of all and one's own, which are of the queue, the next confusion
    with django_assert_num_queries(4):
        worth = worth_of(world.dataset, rita, queue)
    assert worth.says == (
        "0 of the last 10 were useful (0%, 0% to 28%): the rest may not be worth it. "
        "Next: dog → fox, 2 waiting."
    )
    # Of the whole queue it says so too, but names no other confusion.
    wide = worth_of(world.dataset, rita, queue_of(world.dataset))
    assert wide.is_low
    assert wide.next_pair is None
    # What others found counts for whoever goes on here.
    assert worth_of(world.dataset, lena, queue).of == 10


def test_the_largest_is_next_when_no_smaller_one_waits(world, rita):
    give(world, 10, rita, Verdict.DISMISS)
    world.add_findings(30, true=0, predicted=2)
    worth = worth_of(world.dataset, rita, pair_queue(world))
    assert str(worth.next_pair.predicted_label) == "fox"


def test_undone_verdicts_and_other_confusions_do_not_count(
    world, rita, django_assert_num_queries
):
    for review in give(world, 3, rita, Verdict.CONFIRM):
        undo(review=review, by=rita)
    other = world.add_findings(4, true=1, predicted=2)
    for finding in other:
        decide(finding=finding, by=rita, verdict=Verdict.CONFIRM)
    queue = pair_queue(world)
    with django_assert_num_queries(3):
        worth = worth_of(world.dataset, rita, queue)
    assert (worth.useful, worth.of) == (0, 0)
    assert worth_of(world.dataset, rita, pair_queue(world, 1, 2)).useful == 4
