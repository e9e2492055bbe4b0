"""Claims: never two people on one finding, in the order that was asked for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from reviewapp.actions.reviews import (
    claim,
    claim_one,
    forget_skips,
    hold,
    release,
    renew,
    skip,
)
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Claim,
    Finding,
    Opinion,
    RegisteredModel,
    Standing,
    Verdict,
)
from tests import factories
from tests.reviewing import decide, queue_of

CONFIRM = Verdict.CONFIRM


def ids_of(findings):
    return [finding.pk for finding in findings]


def test_it_hands_out_the_hardest_of_one_confusion_first(world, rita):
    found = claim(queue=queue_of(world.dataset), by=rita, limit=2)
    assert [f.priority for f in found] == [0.99, 0.989]


def test_two_reviewers_get_different_findings(world, rita, lena):
    first = claim(queue=queue_of(world.dataset), by=rita, limit=2)
    second = claim(queue=queue_of(world.dataset), by=lena, limit=2)
    assert len(first) == 2
    assert len(second) == 1
    assert not set(first) & set(second)


def test_what_one_holds_already_comes_first(world, rita, lena):
    queue = queue_of(world.dataset)
    first = claim(queue=queue, by=rita, limit=2)
    hardest = world.add_findings(1)[0]
    Finding.objects.filter(pk=hardest.pk).update(priority=1)
    assert claim(queue=queue, by=rita, limit=2) == first
    assert claim(queue=queue, by=rita, limit=3) == [*first, hardest]


def test_what_one_has_before_one_is_not_loaded_again(world, rita):
    queue = queue_of(world.dataset)
    first = claim(queue=queue, by=rita, limit=2)
    (third,) = claim(queue=queue, by=rita, limit=3, without={f.pk for f in first})
    assert third == world.findings[2]
    assert Claim.objects.filter(reviewer=rita).count() == 3


def test_more_is_held_ahead_only_while_many_more_are_free(world, rita, lena):
    queue = queue_of(world.dataset)
    held = Claim.objects.filter(reviewer=rita)
    assert ids_of(claim(queue=queue, by=rita, limit=1, ahead=4)) == [
        world.findings[0].pk
    ]
    assert held.count() == 1  # three are free
    world.add_findings(20)
    first = claim(queue=queue, by=rita, limit=2, ahead=4)
    assert len(first) == 2
    assert held.count() == 6
    # What is held is handed out before more is looked for.
    assert claim(queue=queue, by=rita, limit=6, ahead=4)[:2] == first
    assert held.count() == 6


def test_what_is_held_ahead_keeps_nothing_from_being_decided(world, rita, lena):
    """Two go on until nothing is left for either: each finding is one's, once."""
    world.add_findings(20)
    queue = queue_of(world.dataset)
    decided = []
    while found := [
        (by, finding)
        for by in (rita, lena)
        for finding in claim(queue=queue, by=by, limit=1, ahead=4)
    ]:
        for by, finding in found:
            decide(finding=finding, by=by, verdict=CONFIRM)
            decided.append(finding.pk)
    assert len(decided) == len(set(decided)) == 23
    assert not Claim.objects.exists()


def test_an_expired_claim_is_taken_over(world, rita, lena):
    queue = queue_of(world.dataset)
    mine = claim(queue=queue, by=rita, limit=3)
    assert claim(queue=queue, by=lena, limit=3) == []
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert claim(queue=queue, by=lena, limit=3) == mine
    assert claim(queue=queue, by=lena, limit=3) == mine  # in the same order
    assert claim(queue=queue, by=rita, limit=3) == []


def test_renewing_holds_on_to_what_nobody_took_over(world, rita, lena):
    queue = queue_of(world.dataset)
    mine = claim(queue=queue, by=rita, limit=2)
    Claim.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    (taken,) = claim(queue=queue, by=lena, limit=1)
    assert taken == mine[0]
    assert renew(dataset=world.dataset, by=rita) == 1
    assert claim(queue=queue, by=lena, limit=3) == [taken, world.findings[2]]


def test_releasing_gives_everything_back(world, rita, lena):
    queue = queue_of(world.dataset)
    claim(queue=queue, by=rita, limit=3)
    assert release(dataset=world.dataset, by=rita) == 3
    assert len(claim(queue=queue, by=lena, limit=3)) == 3


def test_one_finding_is_held_unless_another_holds_it(world, rita, lena):
    finding = world.findings[1]
    assert claim_one(finding=finding, by=rita)
    assert claim_one(finding=finding, by=rita)
    assert not claim_one(finding=finding, by=lena)
    ids = ids_of(world.findings)
    assert hold(findings=ids, by=lena) == {ids[0], ids[2]}


def test_what_does_not_wait_is_not_held(world, rita, lena):
    decide(finding=world.findings[0], by=lena, verdict=CONFIRM)
    assert not claim_one(finding=world.findings[0], by=rita)
    assert hold(findings=[], by=rita) == set()


def test_a_skipped_finding_comes_back_when_asked(world, rita):
    queue = queue_of(world.dataset)
    (first,) = claim(queue=queue, by=rita, limit=1)
    skip(finding=first, by=rita)
    assert first not in claim(queue=queue, by=rita, limit=3)
    assert forget_skips(queue=queue, by=rita) == 1
    assert first in claim(queue=queue, by=rita, limit=3)


def test_a_skip_is_for_oneself_only(world, rita, lena):
    skip(finding=world.findings[0], by=rita)
    assert world.findings[0] in claim(queue=queue_of(world.dataset), by=lena, limit=3)


def test_a_blind_opinion_is_not_asked_for_twice(world, rita, lena):
    world.dataset.overlap = 2
    world.dataset.save(update_fields=["overlap"])
    finding = world.findings[0]
    Opinion.objects.create(
        finding=finding, finding_version=0, reviewer=rita, verdict=CONFIRM
    )
    queue = queue_of(world.dataset)
    assert finding not in claim(queue=queue, by=rita, limit=3)
    assert queue.left_for(rita, 100) == 2
    assert finding in claim(queue=queue, by=lena, limit=1)
    release(dataset=world.dataset, by=lena)
    Finding.objects.filter(pk=finding.pk).update(version=1)  # another one by now
    assert finding in claim(queue=queue, by=rita, limit=3)


@pytest.fixture
def three_pairs(world):
    """Three cat -> dog, two cat -> fox (0.5, 0.4), one dog -> cat, a near miss."""
    fox = world.add_findings(2, true=0, predicted=2)
    cat = world.add_findings(1, true=1, predicted=0)
    near = world.add_findings(1, true=2, predicted=2)
    numbers = {
        world.findings[0]: (0.30, 0.50),
        world.findings[1]: (0.20, 0.60),
        world.findings[2]: (0.10, 0.70),
        fox[0]: (0.50, 0.45),
        fox[1]: (0.40, 0.90),
        cat[0]: (0.95, 0.95),
        near[0]: (0.45, 0.55),
    }
    for finding, (priority, confidence) in numbers.items():
        finding.priority, finding.confidence = priority, confidence
        finding.save(update_fields=["priority", "confidence"])
    return world.findings[:3], fox, cat, near


def in_order(world, by, order="", **fields):
    """Return what a queue hands out, as places in `world.findings`."""
    queue = queue_of(world.dataset, order=order, **fields)
    found = claim(queue=queue, by=by, limit=50)
    release(dataset=world.dataset, by=by)
    return [world.findings.index(finding) for finding in found]


@pytest.mark.parametrize(
    ("order", "places"),
    [
        # 2 x 0.5, 1 x 0.95, 3 x 0.3, 2 x 0.4, 3 x 0.2, 3 x 0.1
        ("", [3, 5, 0, 4, 1, 2]),
        ("hardest", [5, 3, 4, 0, 1, 2]),
        ("newest", [5, 4, 3, 2, 1, 0]),
        ("surest", [5, 4, 2, 1, 0, 3]),
        ("doubted", [5, 4, 2, 1, 0, 3]),  # nothing is known of the model's: surest
        ("least_sure", [3, 0, 1, 2, 4, 5]),
        ("learned", [3, 5, 0, 4, 1, 2]),  # nothing is learned yet: the usual order
    ],
)
def test_the_order_is_what_was_asked_for(world, rita, three_pairs, order, places):
    assert in_order(world, rita, order) == places


def test_the_most_valuable_are_found_however_few_confusions_are_looked_at(
    world, rita, three_pairs, monkeypatch
):
    monkeypatch.setattr("reviewapp.actions.orders.FIRST_LOOK", 1)
    queue = queue_of(world.dataset)
    found = [claim(queue=queue, by=rita, limit=n + 1)[n] for n in range(6)]
    assert [world.findings.index(finding) for finding in found] == [3, 5, 0, 4, 1, 2]


@pytest.mark.parametrize("lane", ["", "label", "model", "near_miss"])
def test_a_filter_changes_nothing_in_the_order(world, rita, three_pairs, lane):
    Standing.objects.filter(kind="misclassified").update(label_from=0.6)
    plain = in_order(world, rita, "value", lane=lane)
    assert plain
    assert plain == in_order(world, rita, "value", lane=lane, split="test")


def test_what_came_back_is_first_when_asked_for(world, rita, three_pairs):
    for place in (2, 5, 1):
        world.findings[place].presence = "regressed"
        world.findings[place].save(update_fields=["presence"])
    assert in_order(world, rita, "back") == [5, 1, 2, 3, 0, 4]


def test_wrong_labels_come_first_as_the_models_scans_say(world, rita, three_pairs):
    other = factories.RegisteredModelFactory(dataset=world.dataset)
    models = RegisteredModel.objects
    models.filter(pk=world.model.pk).update(doubt_order="hardest")
    assert in_order(world, rita, "doubted") == [5, 3, 4, 0, 1, 2]
    models.filter(pk=other.pk).update(doubt_order="surest")  # they do not agree
    assert in_order(world, rita, "doubted") == [5, 4, 2, 1, 0, 3]
    chosen = {"registered_model": str(world.model.pk)}
    assert in_order(world, rita, "doubted", **chosen) == [5, 3, 4, 0, 1, 2]


def test_a_random_order_is_another_one_each_time(world, rita):
    world.add_findings(40)
    orders = [tuple(in_order(world, rita, "random")) for _ in range(5)]
    assert {frozenset(order) for order in orders} == {frozenset(range(43))}
    queue = queue_of(world.dataset, order="random")
    first = set()
    for _ in range(20):
        first |= set(ids_of(claim(queue=queue, by=rita, limit=1)))
        release(dataset=world.dataset, by=rita)
    assert len(first) > 5


def test_near_misses_have_a_lane(world, rita, three_pairs):
    assert in_order(world, rita, lane="near_miss") == [6]
    assert in_order(world, rita, kind="near_miss") == [6]


@pytest.mark.parametrize(
    "order", ["", "hardest", "newest", "surest", "least_sure", "random", "back"]
)
def test_the_lane_label_begins_at_a_confidence(world, rita, three_pairs, order):
    dog = Standing.objects.filter(
        true_label=world.labels[0], predicted_label=world.labels[1]
    )
    dog.update(label_from=0.1)
    fox = Standing.objects.filter(predicted_label=world.labels[2], kind="misclassified")
    fox.update(label_from=0.5)
    Finding.objects.filter(pk=world.findings[4].pk).update(priority=0.95)
    label = in_order(world, rita, order, lane="label")
    model = in_order(world, rita, order, lane="model")
    assert sorted(label) == [0, 1, 2, 4]  # all of cat -> dog, the surer cat -> fox
    assert sorted(model) == [3, 5]


def test_a_queue_is_narrowed_to_a_confusion(world, rita, three_pairs):
    cat, _dog, fox = (str(label.pk) for label in world.labels)
    assert in_order(world, rita, true_label=cat, predicted_label=fox) == [3, 4]
    assert in_order(world, rita, predicted_label=cat) == [5]
    assert in_order(world, rita, p_true_below="0.55") == [3, 5]
    assert in_order(world, rita, registered_model=str(world.model.pk)) == [
        3,
        5,
        0,
        4,
        1,
        2,
    ]


def test_a_queue_names_only_what_is_not_usual(world):
    queue = queue_of(world.dataset, lane="", order="value", split="", key="x", page="7")
    assert (queue.fields, queue.query) == ({"key": "x"}, "key=x")
    queue = queue_of(world.dataset, lane="model", order="newest")
    assert queue.fields == {"lane": "model", "order": "newest"}
    assert queue.title == "errors, lane model"
    queue = queue_of(world.dataset, lane="label")
    assert (queue.order, queue.fields) == ("doubted", {"lane": "label"})
    queue = queue_of(world.dataset, lane="label", order="value")
    assert queue.fields == {"lane": "label", "order": "value"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lane": "fast"}, "no lane 'fast'"),
        ({"order": "best"}, "no order 'best'"),
        ({"true_label": "999999"}, "This queue is not possible"),
    ],
)
def test_a_queue_that_is_not_possible_is_refused(world, fields, message):
    with pytest.raises(Refused, match=message):
        queue_of(world.dataset, **fields)


def test_what_is_left_leaves_out_what_others_hold_and_what_was_skipped(
    world, rita, lena, three_pairs
):
    queue = queue_of(world.dataset)
    claim(queue=queue, by=lena, limit=1)
    skip(finding=world.findings[0], by=rita)
    claim(queue=queue, by=rita, limit=2)
    assert queue.left_for(rita, 100) == queue.free_for(rita).count() == 4
    assert queue.left_for(rita, 3) == 3
    assert queue_of(world.dataset, lane="near_miss").left_for(rita, 100) == 1
    assert queue_of(world.dataset, lane="model").left_for(rita, 100) == 4
    assert queue_of(world.dataset, split="val").left_for(rita, 100) == 0
