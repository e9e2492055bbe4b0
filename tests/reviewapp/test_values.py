"""What fixing a confusion is worth: by hand, and in the order of the ledger."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.cache import cache

from reviewapp.exceptions import Refused
from reviewapp.models import Confusion, Finding, Scan
from reviewapp.tasks import recover_lost_work
from reviewapp.team import Pace
from reviewapp.values import LedgerOrder, page_by_value, values_of
from tests import factories

pytestmark = pytest.mark.usefixtures("clean_cache")


def scan_of(world, cells: dict[tuple[int, int], int], **fields: object) -> Scan:
    errors = sum(n for (true, predicted), n in cells.items() if true != predicted)
    scan = factories.ScanFactory(
        **{
            "model_version": world.scan.model_version,
            "correct": sum(cells.values()) - errors,
            "errors": errors,
        }
        | fields
    )
    for (true, predicted), n in cells.items():
        factories.ConfusionCountFactory(
            scan=scan,
            true_label=world.labels[true],
            predicted_label=world.labels[predicted],
            count=n,
        )
    return scan


def line_of(world, true: int, predicted: int, **fields: object) -> Confusion:
    return factories.ConfusionFactory(
        registered_model=world.model,
        true_label=world.labels[true],
        predicted_label=world.labels[predicted],
        **fields,
    )


def value(world, line: Confusion):
    return values_of(world.dataset, [line])[line.pk]


def test_it_is_what_one_computes_by_hand(world):
    line = Confusion.objects.get()
    found = value(world, line)
    # 7 cats right, 3 taken for dogs, no dog: F1 of cat 14/17, of dog in no mean.
    assert (found.scan, found.count, found.support) == (world.scan.pk, 3, 10)
    assert found.rate == 0.3
    assert found.accuracy == pytest.approx(0.3)
    assert found.macro_f1 == pytest.approx(1 - 14 / 17)
    # No verdict yet: one half; three findings of ten seconds.
    assert (found.fixable, found.judged, found.share) == (0, 0, 0.5)
    assert (found.waiting, found.minutes) == (3, 0.5)
    assert found.accuracy_per_minute == pytest.approx(0.3 * 0.5 / 0.5)
    assert found.macro_f1_per_minute == pytest.approx(1 - 14 / 17)
    assert (found.interval.low, found.interval.high) == (
        pytest.approx(0.1078, abs=1e-4),
        pytest.approx(0.6032, abs=1e-4),
    )


def test_verdicts_move_the_share_and_the_review_that_is_left(world):
    confirmed, dismissed, flagged = world.findings
    for finding, state in (
        (confirmed, "confirmed"),
        (dismissed, "dismissed"),
        (flagged, "flagged"),
    ):
        Finding.objects.filter(pk=finding.pk).update(review_state=state)
    found = value(world, Confusion.objects.get())
    assert (found.fixable, found.judged, found.share) == (1, 2, 0.5)
    assert (found.waiting, found.minutes) == (0, pytest.approx(10 / 60))


def test_verdicts_are_counted_again_when_the_count_is_old(world, settings):
    # Clearing the shared cache clears it for the tests that run beside this one.
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    }
    line = Confusion.objects.get()
    assert value(world, line).judged == 0
    Finding.objects.update(review_state="relabelled")
    assert value(world, line).judged == 0
    cache.clear()
    assert (value(world, line).fixable, value(world, line).share) == (3, 0.8)


def test_old_verdicts_are_shown_once_more_and_counted_by_the_sweep(world, monkeypatch):
    line = Confusion.objects.get()
    assert value(world, line).judged == 0
    Finding.objects.update(review_state="relabelled")
    recover_lost_work()
    assert value(world, line).judged == 0  # not old yet: nobody asked for a count
    monkeypatch.setattr("reviewapp.judged.VERDICTS_FRESH", timedelta(0))
    assert value(world, line).judged == 0
    recover_lost_work()
    assert value(world, line).judged == 3


@pytest.mark.parametrize(
    ("median", "timed", "seconds"), [(6.0, 5, 6), (6.0, 4, 10), (0.0, 99, 0.1)]
)
def test_a_verdict_takes_what_the_team_takes_once_that_is_known(
    world, monkeypatch, median, timed, seconds
):
    pace = Pace(median=median, timed=timed)
    monkeypatch.setattr("reviewapp.judged.pace_of", lambda dataset: pace)
    found = value(world, Confusion.objects.get())
    assert found.minutes == pytest.approx(3 * seconds / 60)


def test_another_models_verdicts_do_not_count(world):
    other = factories.RegisteredModelFactory(dataset=world.dataset)
    factories.FindingFactory(
        sample=world.findings[0].sample,
        predicted_label=world.labels[1],
        registered_model=other,
        review_state="dismissed",
    )
    assert value(world, Confusion.objects.get()).judged == 0


def test_the_last_scan_of_a_split_speaks_for_it(world):
    line = Confusion.objects.get()
    val = scan_of(world, {(0, 0): 4, (0, 2): 1}, split="val")
    assert value(world, line).scan == world.scan.pk  # the other split still has it
    test = scan_of(world, {(0, 0): 9, (0, 1): 1})
    found = value(world, line)
    assert (found.scan, found.count, found.support) == (test.pk, 1, 10)
    whole = scan_of(world, {(0, 0): 20}, split="")
    found = value(world, line)
    assert (found.scan, found.count, found.support) == (whole.pk, 0, 20)
    assert val.pk < whole.pk


def test_what_is_not_seen_any_more_is_not_looked_for_in_older_scans(world):
    line = Confusion.objects.get()
    line.present = 0
    val = scan_of(world, {(0, 0): 4}, split="val")
    found = value(world, line)
    assert (found.scan, found.count, found.macro_f1) == (val.pk, 0, 0)


def test_a_scan_without_a_sample_of_the_class_says_nothing(world):
    line = Confusion.objects.get()
    line.present = 0
    scan_of(world, {(1, 1): 4}, split="val")
    assert value(world, line).scan == world.scan.pk


def test_without_a_scan_that_counts_nothing_is_said(world):
    Scan.objects.update(for_record=True)
    found = value(world, Confusion.objects.get())
    assert (found.scan, found.count, found.rate) == (None, 0, None)
    assert found.macro_f1_per_minute == 0


def test_the_order_is_by_value_and_its_pages_have_no_gap(world):
    # A small class, a large one, and one that nobody confuses.
    scan_of(world, {(0, 0): 96, (0, 1): 4, (1, 1): 6, (1, 2): 4, (2, 2): 10})
    small, none = line_of(world, 1, 2, present=4), line_of(world, 2, 0, present=0)
    large = Confusion.objects.get(true_label=world.labels[0])
    lines = Confusion.objects.for_dataset(world.dataset)

    def order(by: LedgerOrder) -> list[Confusion]:
        rows, after = [], None
        while True:
            page = page_by_value(world.dataset, lines, order=by, after=after, size=1)
            rows += page.rows
            if page.next is None:
                return rows
            after = page.next

    assert order(LedgerOrder.VALUE) == [small, large, none]
    # The same errors and fewer findings to review: what has none waiting costs least.
    assert order(LedgerOrder.VALUE_ACCURACY) == [small, large, none]
    Finding.objects.update(review_state="confirmed")
    cache.clear()
    assert order(LedgerOrder.VALUE_ACCURACY) == [large, small, none]


def test_a_made_up_place_is_refused(world):
    for after in ("-1", "x", "1" * 30):
        with pytest.raises(Refused, match="first page"):
            page_by_value(
                world.dataset,
                Confusion.objects.all(),
                order=LedgerOrder.VALUE,
                after=after,
                size=5,
            )
