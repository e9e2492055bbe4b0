"""The ledger follows from the findings, and writes down what changed."""

from __future__ import annotations

import pytest

from mining.evidence import Evidence
from reviewapp.actions.confusions import Counts, next_state, update_ledger
from reviewapp.models import Confusion, ConfusionEvent, Finding
from tests import factories


@pytest.fixture
def update(world):
    def update(**options: object) -> int:
        return update_ledger(dataset=world.dataset, model=world.model, **options)

    return update


@pytest.fixture
def line(world) -> Confusion:
    return Confusion.objects.get()


def scan_again(world, count: int):
    scan = factories.ScanFactory(model_version=world.scan.model_version, errors=count)
    cat, dog, _ = world.labels
    factories.ConfusionCountFactory(
        scan=scan, true_label=cat, predicted_label=dog, count=count
    )
    return scan


def test_a_new_confusion_is_a_line_and_an_event(world, update):
    world.add_findings(2, true=1, predicted=2)
    scan = scan_again(world, 3)
    dog, fox = world.labels[1:]
    factories.ConfusionCountFactory(
        scan=scan, true_label=dog, predicted_label=fox, count=2
    )
    assert update(scan=scan) == 1
    line = Confusion.objects.get(true_label=dog)
    assert (line.predicted_label, line.state, line.present, line.peak) == (
        fox, "open", 2, 2
    )  # fmt: skip
    assert (line.first_scan, line.last_scan) == (scan, scan)
    event = ConfusionEvent.objects.get()
    assert (event.confusion, event.scan) == (line, scan)
    assert (event.old_state, event.new_state) == ("", "open")
    assert event.evidence == {
        "present": 2,
        "waiting": 2,
        "reviewed": 0,
        "count_in_scan": 2,
    }


def test_nothing_new_is_no_event_but_the_scan_is_noted(world, update, line):
    scan = scan_again(world, 3)
    assert update(scan=scan) == 0
    line.refresh_from_db()
    assert (line.state, line.present, line.peak) == ("open", 3, 3)
    assert (line.first_scan, line.last_scan) == (world.scan, scan)
    assert not ConfusionEvent.objects.exists()


def test_a_line_that_does_not_change_is_not_written(world, update, line):
    assert update() == 0
    before = line.updated_at
    line.refresh_from_db()
    assert line.updated_at == before


def test_gone_then_back_keeps_the_peak_and_the_last_scan_that_saw_it(
    world, update, line
):
    Finding.objects.update(presence="fixed")
    empty = factories.ScanFactory(model_version=world.scan.model_version)
    assert update(scan=empty) == 1
    line.refresh_from_db()
    assert (line.state, line.present, line.peak) == ("improving", 0, 3)
    assert line.last_scan == world.scan
    Finding.objects.update(presence="regressed")
    worse = scan_again(world, 5)
    assert update(scan=worse) == 1
    line.refresh_from_db()
    assert (line.state, line.present, line.peak) == ("open", 3, 5)
    states = ConfusionEvent.objects.order_by("id").values_list("old_state", "new_state")
    assert list(states) == [("open", "improving"), ("improving", "open")]


def test_only_the_pairs_that_are_named_are_updated(world, update, line):
    world.add_findings(1, true=1, predicted=2)
    Finding.objects.update(review_state="confirmed")
    pair = (line.true_label_id, line.predicted_label_id)
    assert update(pairs=[pair]) == 1
    assert Confusion.objects.get().state == "in_review"
    assert update(pairs=[]) == 0
    event = ConfusionEvent.objects.get()
    assert (event.scan, event.evidence["count_in_scan"]) == (None, None)


def test_without_errors_left_only_a_scan_can_say_that_it_is_fixed(world, update, line):
    Finding.objects.update(presence="superseded", review_state="relabelled")
    update()
    line.refresh_from_db()
    assert (line.state, line.present, line.evidence) == ("in_review", 0, {})


COUNTS = {
    "open": Counts(present=3, waiting=3, reviewed=0),
    "begun": Counts(present=3, waiting=2, reviewed=1),
    "done": Counts(present=3, waiting=0, reviewed=3),
    "gone": Counts(present=0, waiting=0, reviewed=0),
}


@pytest.mark.parametrize(
    ("says", "found", "claimed", "state"),
    [
        ("open", "open", False, "open"),
        ("open", "begun", False, "in_review"),
        ("open", "done", False, "in_review"),
        ("open", "done", True, "fix_exported"),
        ("open", "begun", True, "in_review"),
        ("open", "open", True, "open"),
        ("open", "gone", False, "open"),
        ("improving", "begun", True, "improving"),
        ("fixed", "begun", False, "fixed"),
        ("regressed", "begun", False, "regressed"),
        ("regressed", "begun", True, "regressed"),
        ("regressed", "done", True, "fix_exported"),
    ],
)
def test_the_state_is_what_scans_proved_or_else_follows_from_the_findings(
    says, found, claimed, state
):
    evidence = Evidence(says=says)
    assert next_state(evidence, COUNTS[found], is_claimed=claimed) == state
