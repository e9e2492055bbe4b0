"""Tallies answer what the functions over all samples answer, which are the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.tally import (
    CUTS,
    band_counts,
    cheapest,
    class_figures,
    curve,
    from_bytes,
    tally,
    to_bytes,
)
from mining.thresholds import Confidences, band, cheapest_threshold, curves

CLASSES = ("cat", "dog", "owl")
# Thousandths and floats between them, so that ties and hits of an edge are common.
CONFIDENCE = st.one_of(
    st.integers(0, 1000).map(lambda n: n / 1000), st.floats(0, 1, width=32)
)
ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), CONFIDENCE), min_size=1, max_size=60
)
COST = st.integers(0, 9)


def seen(rows) -> Confidences:
    true, predicted, confidence = zip(*rows, strict=True)
    return Confidences(
        CLASSES,
        np.arange(len(rows)),
        np.array(true),
        np.array(predicted),
        np.array(confidence, np.float32),
    )


def many(n: int, classes: int, seed: int = 0) -> Confidences:
    random = np.random.default_rng(seed)
    confidence = random.beta(5, 1, n).astype(np.float32)
    true = random.integers(0, classes, n)
    wrong = random.random(n) > confidence
    predicted = np.where(wrong, random.integers(0, classes, n), true)
    names = tuple(f"class {i}" for i in range(classes))
    return Confidences(names, np.arange(n), true, predicted, confidence)


@given(ROWS, st.integers(0, 1000), st.integers(0, 300), st.integers(0, 100))
def test_a_band_is_that_of_all_samples(rows, place, width, below) -> None:
    samples = seen(rows)
    near = below / 100
    low, high = max(0, place - width) / 1000, min(1000, place + width) / 1000
    found = band_counts(
        tally(samples, near_miss_below=near), low, high, near_miss_below=near
    )
    middle, half = (low + high) / 2, (high - low) / 2
    inside = (samples.confidence >= np.float32(low)) & (
        samples.confidence <= np.float32(high)
    )
    is_near = inside & samples.right & (samples.confidence.astype(np.float64) < near)
    assert (found.samples, found.errors, found.near_misses) == (
        inside.sum(),
        (inside & ~samples.right).sum(),
        is_near.sum(),
    )
    if low + high == 1:  # where the middle and the half are exact
        assert found.samples == band(samples, middle, width=half).count


def test_a_near_miss_that_rounds_to_the_limit_is_below_it() -> None:
    """0.9 as a 32-bit float is below 0.9, and so the scan made it a finding."""
    samples = seen([(0, 0, 0.9), (0, 0, 0.95)])
    counted = tally(samples, near_miss_below=0.9)
    assert band_counts(counted, 0.8, 1.0, near_miss_below=0.9).near_misses == 1


@given(ROWS)
def test_curves_are_those_of_all_samples(rows) -> None:
    samples = seen(rows)
    every, own = curves(samples, of=CLASSES)
    of = tally(samples)
    for expected, name in ((every, None), *((own[name], name) for name in CLASSES)):
        found = curve(of, name)
        for part in ("thresholds", "coverage", "accuracy", "precision", "recall"):
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


@given(ROWS, st.integers(0, 1000))
def test_the_figures_of_classes_are_counts_of_samples(rows, place) -> None:
    samples = seen(rows)
    found = class_figures(tally(samples), place / 1000)
    accepted = samples.confidence >= np.float32(place / 1000)
    for index in range(3):
        true, claimed = samples.true == index, samples.predicted == index
        assert (
            found.samples[index],
            found.accepted[index],
            found.claimed[index],
            found.right[index],
        ) == (
            true.sum(),
            (true & accepted).sum(),
            (claimed & accepted).sum(),
            (true & claimed & accepted).sum(),
        )


@given(ROWS, COST, COST, COST, COST)
def test_the_cheapest_threshold_is_that_of_all_samples(
    rows, look, error, of_cats, of_owls
) -> None:
    samples = seen(rows)
    costs = {
        "look": look,
        "error": error,
        "of_class": {"cat": of_cats},
        "of_confusion": {("owl", "dog"): of_owls},
    }
    expected = cheapest_threshold(samples, **costs)
    found, at = cheapest(tally(samples), **costs)
    assert (found.cost, found.looks, found.errors) == (
        expected.cost,
        expected.looks,
        expected.errors,
    )
    assert (found.accepting_all, found.looking_at_all) == (
        expected.accepting_all,
        expected.looking_at_all,
    )
    if found.threshold is not None:  # it accepts what it says
        accepted = samples.confidence >= np.float32(found.threshold)
        assert (~accepted).sum() == found.looks
    assert at.min() >= found.cost
    assert at[0] == found.accepting_all


def test_of_equal_thresholds_the_roundest_is_named() -> None:
    rows = [(0, 1, 0.61234567), (0, 0, 0.8765432)]
    found, _ = cheapest(tally(seen(rows)), look=1, error=10)
    assert (found.threshold, found.looks) == (0.7, 1)
    found, _ = cheapest(tally(seen(rows)), look=1, error=0.5)
    assert (found.threshold, found.looks) == (0.0, 0)
    found, _ = cheapest(tally(seen([(0, 1, 0.5), (1, 0, 1.0)])), look=1, error=10)
    assert (found.threshold, found.looks) == (None, 2)


def test_with_many_errors_the_cheapest_threshold_is_nearly_found() -> None:
    samples = many(40_000, 10)
    assert (~samples.right).sum() > 2 * CUTS
    expected = cheapest_threshold(samples, look=1, error=5)
    found, _ = cheapest(tally(samples), look=1, error=5)
    assert expected.cost <= found.cost <= expected.cost * 1.002


def test_it_refuses_costs_that_make_no_sense() -> None:
    of = tally(seen([(0, 1, 0.5)]))
    for wrong in ({"look": -1.0, "error": 1}, {"look": float("nan"), "error": 1}):
        with pytest.raises(ValueError, match="0 or more"):
            cheapest(of, **wrong)
    with pytest.raises(ValueError, match="no such class: yak"):
        cheapest(of, look=1, error=1, of_class={"yak": 2})


def test_bytes_bring_back_the_same_tally() -> None:
    samples = many(20_000, 300, seed=1)
    before = tally(samples, near_miss_below=0.6)
    data = to_bytes(before)
    after = from_bytes(data, samples.classes)
    assert len(data) < 8 * len(before.bins)
    assert after.samples == len(samples.id)
    for name in ("edges", "bins", "counts"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("true", "predicted", "confidence"):
        np.testing.assert_array_equal(
            getattr(after.cells, name), getattr(before.cells, name)
        )


def test_a_scan_without_a_readable_sample_has_an_empty_tally() -> None:
    nothing = np.zeros(0, np.int64)
    none = Confidences(CLASSES, nothing, nothing, nothing, np.zeros(0, np.float32))
    of = from_bytes(to_bytes(tally(none)), CLASSES)
    assert of.samples == 0
    assert class_figures(of, 0.5).samples.tolist() == [0, 0, 0]
    assert np.isnan(curve(of).accuracy).all()
    assert cheapest(of, look=1, error=1)[0].threshold is None
