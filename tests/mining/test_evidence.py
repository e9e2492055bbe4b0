"""What scans prove of a confusion, case by case; the p values are SciPy's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mining.evidence import ALPHA, NOTHING, Evidence, Paired, Seen, judge

FIXED = Evidence("fixed", "proved", scan=2, proved_by=2, count=3)
BACK = Evidence("regressed", "rose", scan=3, came_back=True)
FEWER = Evidence("improving", "fewer", scan=2, baseline=1, b=5, c=0)
FEWER_AGAIN = replace(FEWER, came_back=True)
ONE_ZERO = Evidence("improving", "zero_once", scan=2, zero_in_a_row=1)


def seen(
    b: int | None = None,
    c: int = 0,
    *,
    count: int = 4,
    claimed: bool = True,
    zero: bool = False,
    target: int | None = None,
) -> Seen:
    """Return what scan 9 saw; b: None: there is no baseline."""
    paired = None if b is None else Paired(1, 2451, b, c, 23, 900)
    return Seen(9, count, 880, zero, claimed, target, paired)


def said(before: Evidence, now: Seen) -> tuple[str, str]:
    [evidence] = judge([(before, now)])
    return evidence.says, evidence.why


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (seen(20, 1), ("fixed", "proved")),
        (seen(6, 0), ("fixed", "proved")),  # p = 2 / 2^6 = 0.03
        (seen(5, 0), ("improving", "fewer")),  # p = 2 / 2^5 = 0.06
        (seen(4, 4), ("open", "not_fewer")),
        (seen(1, 20), ("open", "not_fewer")),
        (seen(0, 0), ("open", "not_fewer")),
        (seen(20, 1, target=4), ("fixed", "proved")),
        (seen(20, 1, target=3), ("improving", "above_target")),
        (seen(5, 0, target=9), ("improving", "fewer")),
        (seen(3, 0, count=0, zero=True), ("improving", "zero_once")),
        (seen(20, 0, count=0, zero=True), ("fixed", "proved")),
        (seen(None, count=0, zero=True), ("improving", "zero_once")),
        (seen(None), ("open", "")),
        (seen(20, 1, claimed=False), ("open", "")),
        (seen(count=0, claimed=False, zero=True), ("improving", "zero_once")),
    ],
)
def test_what_one_scan_says_of_a_line_of_which_nothing_was_proved(
    now: Seen, expected: tuple[str, str]
) -> None:
    assert said(NOTHING, now) == expected


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (ONE_ZERO, seen(count=0, zero=True, claimed=False), ("fixed", "zero_twice")),
        (ONE_ZERO, seen(3, 0, count=0, zero=True), ("fixed", "zero_twice")),
        (ONE_ZERO, seen(claimed=False), ("open", "")),
        (ONE_ZERO, seen(3, 1), ("improving", "fewer")),
        (ONE_ZERO, seen(None), ("open", "")),
        # Errors among other images: nothing to compare, nothing is taken back.
        (FEWER, seen(None), ("improving", "fewer")),
        (FEWER_AGAIN, seen(None), ("improving", "fewer")),
        (BACK, seen(claimed=False), ("regressed", "rose")),
        (BACK, seen(4, 4), ("regressed", "not_fewer")),
        (BACK, seen(5, 0), ("improving", "fewer")),
        (BACK, seen(20, 1), ("fixed", "proved")),
        (BACK, seen(count=0, zero=True, claimed=False), ("improving", "zero_once")),
    ],
)
def test_what_was_proved_before_counts(
    before: Evidence, now: Seen, expected: tuple[str, str]
) -> None:
    assert said(before, now) == expected


def test_what_was_back_and_at_zero_once_is_back_again_when_it_is_seen() -> None:
    [once] = judge([(BACK, seen(count=0, zero=True, claimed=False))])
    assert said(once, seen(claimed=False)) == ("regressed", "seen_again")
    [twice] = judge([(once, seen(count=0, zero=True, claimed=False))])
    assert (twice.says, twice.proved_by, twice.came_back) == ("fixed", 9, False)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (seen(0, 0), ("fixed", "proved")),  # its proof stays to be read
        (seen(5, 1), ("fixed", "proved")),
        (seen(None), ("fixed", "proved")),
        (seen(0, 5), ("fixed", "higher")),  # p = 0.06
        (seen(0, 6), ("regressed", "rose")),  # p = 0.03
        (seen(20, 1), ("fixed", "proved")),
    ],
)
def test_what_is_fixed_stays_so_until_a_rise_is_proved(
    now: Seen, expected: tuple[str, str]
) -> None:
    assert said(FIXED, now) == expected


def test_what_is_higher_twice_in_a_row_is_back_and_once_is_not() -> None:
    [once] = judge([(FIXED, seen(0, 1))])
    assert (once.says, once.above_in_a_row, once.proved_by) == ("fixed", 1, 2)
    assert said(once, seen(0, 1)) == ("regressed", "above_twice")
    assert said(once, seen(None)) == ("fixed", "higher")  # not covered
    [between] = judge([(once, seen(1, 1))])
    assert (between.why, between.above_in_a_row) == ("still", 0)
    assert said(between, seen(0, 1)) == ("fixed", "higher")


def test_the_claimed_are_corrected_together_and_so_are_the_fixed() -> None:
    """Six claimed with one of 23 -> 4; p of (20, 1) alone is 0.00002, of (6, 0) 0.03."""
    others = [(NOTHING, seen(2, 1)) for _ in range(4)]
    first, second, *_ = judge(
        [(NOTHING, seen(20, 1)), (NOTHING, seen(6, 0)), *others, (FIXED, seen(0, 6))]
    )
    p = binomtest(1, 21).pvalue
    assert (first.p, first.p_corrected) == pytest.approx((p, 6 * p))
    assert (first.says, first.family) == ("fixed", 6)
    assert second.p == pytest.approx(binomtest(0, 6).pvalue)
    assert (second.says, second.why) == ("improving", "fewer")
    assert second.p_corrected == pytest.approx(5 * binomtest(0, 6).pvalue)
    # One fixed line alone is not corrected; a second one, though quiet, counts.
    assert judge([(FIXED, seen(0, 6))])[0].says == "regressed"
    held, _ = judge([(FIXED, seen(0, 6)), (FIXED, seen(0, 0))])
    assert (held.says, held.family) == ("fixed", 2)


def test_unclaimed_lines_are_in_no_family() -> None:
    [one, _] = judge([(NOTHING, seen(6, 0)), (NOTHING, seen(6, 0, claimed=False))])
    assert (one.says, one.family) == ("fixed", 1)


def test_the_numbers_of_the_rule_are_kept_and_come_back() -> None:
    [evidence] = judge([(NOTHING, seen(20, 1, target=5))])
    assert evidence.to_dict() == {
        "says": "fixed",
        "why": "proved",
        "scan": 9,
        "baseline": 1,
        "samples": 2451,
        "b": 20,
        "c": 1,
        "p": evidence.p,
        "p_corrected": evidence.p,
        "family": 1,
        "count": 4,
        "support": 880,
        "baseline_count": 23,
        "baseline_support": 900,
        "target": 5,
        "proved_by": 9,
    }
    assert Evidence.from_dict(evidence.to_dict()) == evidence
    assert NOTHING.to_dict() == {}


@given(
    st.sampled_from([NOTHING, ONE_ZERO, BACK, FIXED]),
    st.integers(0, 30),
    st.integers(0, 30),
    st.booleans(),
)
def test_nothing_is_proved_that_could_be_luck(
    before: Evidence, b: int, c: int, claimed: bool
) -> None:
    [now] = judge([(before, seen(b, c, claimed=claimed))])
    p = binomtest(min(b, c), b + c).pvalue if b + c else 1.0
    if now.why == "proved" and before.says != "fixed":
        assert claimed
        assert b > c
        assert p < ALPHA
    if now.why == "rose" and before.says == "fixed":
        assert c > b
        assert p < ALPHA
    if (now.says, before.says) == ("regressed", "open"):
        pytest.fail("only what was fixed can be back")
