from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from mining.statistics import (
    Interval,
    enrichment,
    holm,
    mcnemar_exact,
    paired_difference,
    ratio_of_means,
    samples_needed,
    wilson,
)

COUNTS = st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(sorted)
LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@given(COUNTS, LEVELS)
def test_wilson_is_scipys(counts, level):
    k, n = counts
    found = wilson(k, n, level=level)
    if n:
        expected = stats.binomtest(k, n).proportion_ci(level, method="wilson")
        assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-12)
        assert 0 <= found.low <= k / n <= found.high <= 1


def test_wilson_is_statsmodels():
    # statsmodels 0.15.0, proportion_confint(23, 2451, 0.05, "wilson")
    expected = (0.00626115610790233, 0.014042174944946178)
    found = wilson(23, 2451)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-15)


def test_of_no_samples_nothing_is_known():
    assert wilson(0, 0) == Interval(0.0, 1.0)
    nothing = paired_difference(0, 0, 0)
    assert (nothing.difference, nothing.p) == (0.0, 1.0)
    assert nothing.interval == Interval(-1.0, 1.0)


@given(st.integers(0, 2000), st.integers(0, 2000))
def test_mcnemar_is_scipys_binomial_test(b, c):
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9, abs=1e-299)


def test_mcnemar_is_statsmodels():
    # statsmodels 0.15.0, mcnemar([[0, 23], [5, 0]], exact=True)
    assert mcnemar_exact(23, 5) == pytest.approx(0.0009122341871261597, rel=1e-12)


def test_mcnemar_holds_for_millions():
    z = 2000 / math.sqrt(2_000_000)
    assert mcnemar_exact(1_001_000, 999_000) == pytest.approx(
        2 * stats.norm.sf(z), rel=0.01
    )


def test_holm_is_statsmodels():
    # statsmodels 0.15.0, multipletests([0.01, 0.04, 0.03, 0.005], method="holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_step_down_of_1979(pvalues):
    expected = {}
    highest = 0.0
    for rank, (p, place) in enumerate(sorted((p, i) for i, p in enumerate(pvalues))):
        highest = max(highest, (len(pvalues) - rank) * p)
        expected[place] = min(1.0, highest)
    assert holm(pvalues) == [expected[place] for place in range(len(pvalues))]


def score(b: int, c: int, n: int, difference: float) -> float:
    """Return Tango's statistic, with the likeliest shares found by search."""

    def against(share):
        shares = share + difference, share, 1 - 2 * share - difference
        with np.errstate(all="ignore"):
            return -sum(
                count * np.log(max(value, 1e-300))
                for count, value in zip((b, c, n - b - c), shares, strict=True)
            )

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = optimize.minimize_scalar(
        against, bounds=bounds, method="bounded", options={"xatol": 1e-13}
    ).x
    variance = n * (2 * share + difference * (1 - difference))
    return (b - c - n * difference) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("b", "c", "n"), [(1, 7, 21), (12, 2, 50), (177, 22, 2451), (30, 31, 90)]
)
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_ends_of_the_interval_have_the_score_of_the_level(b, c, n, level):
    found = paired_difference(b, c, n, level=level)
    z = stats.norm.ppf(0.5 + level / 2)
    assert score(b, c, n, found.interval.low) == pytest.approx(z, abs=1e-4)
    assert score(b, c, n, found.interval.high) == pytest.approx(-z, abs=1e-4)
    assert found.difference == (b - c) / n


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_the_interval_holds_the_difference_and_turns_with_the_sides(b, c, rest):
    n = b + c + rest
    one, other = paired_difference(b, c, n), paired_difference(c, b, n)
    assert -1 <= one.interval.low <= one.difference <= one.interval.high <= 1
    assert one.interval == Interval(-other.interval.high, -other.interval.low)
    assert one.p == other.p == mcnemar_exact(b, c)


def test_equal_models_may_still_differ_by_a_little():
    # With b = c = 0 the score interval has ends of z^2 / (n + z^2).
    z = stats.norm.ppf(0.975)
    found = paired_difference(0, 0, 100).interval
    assert found.high == pytest.approx(z * z / (100 + z * z), rel=1e-9)
    assert found.low == -found.high


@given(st.data(), st.integers(0, 400))
def test_enrichment_is_fishers_exact_test(data, n):
    size, every = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    hits = data.draw(st.integers(max(0, size + every - n), min(size, every)))
    table = [[hits, size - hits], [every - hits, n - size - every + hits]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert enrichment(hits, size, every, n) == pytest.approx(expected, rel=1e-8)


def test_enrichment_holds_for_millions():
    expected = stats.hypergeom.sf(25_199, 1_000_000, 100_000, 250_000)
    found = enrichment(25_200, 250_000, 100_000, 1_000_000)
    assert found == pytest.approx(expected, rel=1e-6)
    assert enrichment(20_000, 250_000, 100_000, 1_000_000) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("function", "numbers", "message"),
    [
        (wilson, (3, 2), "from 0 to 2"),
        (wilson, (-1, 2), "from 0 to 2"),
        (mcnemar_exact, (-1, 2), "0 or more"),
        (holm, ([0.5, 1.5],), "0 to 1"),
        (holm, ([math.nan],), "0 to 1"),
        (paired_difference, (2, 2, 3), "at most 3"),
        (paired_difference, (-1, 2, 3), "at most 3"),
        (enrichment, (5, 4, 5, 9), "cannot be a part"),
        (enrichment, (0, 9, 9, 10), "cannot be a part"),
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_it_refuses_counts_that_cannot_be(function, numbers, message):
    with pytest.raises(ValueError, match=message):
        function(*numbers)


@pytest.mark.parametrize("level", [0, 1, -0.5, math.nan])
def test_it_refuses_a_level_that_is_no_share(level):
    with pytest.raises(ValueError, match="level must be above 0 and below 1"):
        wilson(1, 2, level=level)
    with pytest.raises(ValueError, match="level must be above 0 and below 1"):
        paired_difference(1, 0, 2, level=level)


@pytest.mark.parametrize(
    ("b", "c", "n"), [(30, 20, 1000), (9, 3, 60), (200, 260, 4000)]
)
def test_as_many_samples_as_needed_find_it_four_times_of_five(b, c, n):
    needed = samples_needed(b, c, n)
    shares = [b / n, c / n, 1 - (b + c) / n]
    drawn = np.random.default_rng(7).multinomial(needed, shares, size=4000)
    # McNemar's test as the formula has it, by the normal distribution.
    z = (drawn[:, 0] - drawn[:, 1]) / np.sqrt(np.maximum(drawn[:, :2].sum(axis=1), 1))
    assert (np.abs(z) > stats.norm.ppf(0.975)).mean() == pytest.approx(0.8, abs=0.03)
    assert samples_needed(c, b, n) == needed
    assert samples_needed(b, c, n, power=0.95) > needed


def test_no_number_of_samples_shows_no_difference():
    assert samples_needed(3, 3, 10) is None
    for wrong in ((-1, 2, 9), (5, 5, 9)):
        with pytest.raises(ValueError, match="b and c must be 0 or more"):
            samples_needed(*wrong)
    with pytest.raises(ValueError, match="power must be above 0 and below 1"):
        samples_needed(3, 1, 9, power=1.0)


def test_at_the_ends_of_a_ratio_the_rest_is_just_not_zero():
    generator = np.random.default_rng(3)
    whole = generator.integers(-1, 3, 300)
    part = generator.integers(-1, 2, 300) * (whole > 0)
    found = ratio_of_means(part, whole)
    for end in (found.interval.low, found.interval.high):
        rest = part - end * whole
        z = rest.mean() / rest.std() * np.sqrt(len(rest))
        assert abs(z) == pytest.approx(stats.norm.ppf(0.975))
    drawn = generator.integers(0, 300, (4000, 300))
    ratios = part[drawn].mean(axis=1) / whole[drawn].mean(axis=1)
    ends = np.quantile(ratios, [0.025, 0.975])
    np.testing.assert_allclose(
        [found.interval.low, found.interval.high], ends, atol=0.02
    )


def test_of_what_may_be_zero_there_is_no_part():
    assert ratio_of_means(np.ones(4, int), np.array([1, -1, 1, 0])) is None
    assert ratio_of_means(np.zeros(0, int), np.zeros(0, int)) is None
    with pytest.raises(ValueError, match="as many numbers"):
        ratio_of_means(np.ones(2, int), np.ones(3, int))
