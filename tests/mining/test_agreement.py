"""Kappas against published tables, scikit-learn and a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from mining.agreement import Agreement, cohen_kappa, fleiss_kappa

# 50 grant proposals, two readers, yes or no: kappa 0.4.
PROPOSALS = (
    [("yes", "yes")] * 20
    + [("yes", "no")] * 5
    + [("no", "yes")] * 10
    + [("no", "no")] * 15
)
# Fleiss (1971), Table 1 as it is usually reprinted: ten subjects, fourteen raters.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]
VERDICTS = st.sampled_from(["confirm", "relabel", "dismiss"])


def judged_by_two(n: int, agree: float, seed: int) -> np.ndarray:
    """Return (n, 2) categories 0-2, the same with probability `agree`."""
    rng = np.random.default_rng(seed)
    first = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    other = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    return np.stack([first, np.where(rng.random(n) < agree, first, other)], axis=1)


def as_counts(judged: np.ndarray) -> list[list[int]]:
    return [np.bincount(row, minlength=3).tolist() for row in judged]


def test_two_readers_of_grant_proposals():
    found = cohen_kappa(PROPOSALS)
    assert found.n == 50
    assert found.observed == pytest.approx(0.7)
    assert found.kappa == pytest.approx(0.4)
    # Formula 13 by hand: sqrt((0.10972 + 0.10188 - 0.01) / 0.25 / 50).
    half = (found.interval.high - found.interval.low) / 2
    assert half / 1.959964 == pytest.approx(0.12699, abs=1e-5)


def test_fourteen_raters_of_ten_subjects():
    found = fleiss_kappa(FLEISS)
    assert found.n == 10
    assert found.observed == pytest.approx(0.378, abs=5e-4)
    assert found.kappa == pytest.approx(0.210, abs=5e-4)


@given(st.lists(st.tuples(VERDICTS, VERDICTS), min_size=2, max_size=60))
def test_cohens_kappa_is_that_of_scikit_learn(pairs):
    found = cohen_kappa(pairs)
    one, other = zip(*pairs, strict=True)
    if len({*one, *other}) == 1:
        assert found.kappa is None
        return
    assert found.kappa == pytest.approx(cohen_kappa_score(one, other))
    # The ends are inside the scale, and kappa between them.
    assert -1 <= found.interval.low <= found.kappa <= found.interval.high <= 1


@pytest.mark.parametrize("agree", [0.2, 0.6, 0.9])
def test_the_intervals_are_those_of_a_bootstrap(agree):
    judged = judged_by_two(400, agree, seed=7)
    rng = np.random.default_rng(1)
    draws = [judged[rng.integers(0, 400, 400)] for _ in range(600)]
    for kappa_of in (
        lambda rows: cohen_kappa([tuple(row) for row in rows.tolist()]),
        lambda rows: fleiss_kappa(as_counts(rows)),
    ):
        interval = kappa_of(judged).interval
        spread = np.std([kappa_of(draw).kappa for draw in draws])
        assert (interval.high - interval.low) / 2 == pytest.approx(
            1.96 * spread, rel=0.12
        )


def test_nine_of_ten_intervals_hold_the_truth():
    """Cohen's, where both draw from the same shares: the truth is `agree` itself."""
    held = 0
    for seed in range(200):
        pairs = [tuple(row) for row in judged_by_two(80, 0.6, seed).tolist()]
        interval = cohen_kappa(pairs).interval
        held += interval.low <= 0.6 <= interval.high
    assert 180 <= held <= 198


def test_findings_with_different_numbers_of_judges_count_alike():
    two = fleiss_kappa([[2, 0], [0, 2], [1, 1]])
    mixed = fleiss_kappa([[4, 0], [0, 3], [1, 1]])
    assert mixed.kappa == pytest.approx(two.kappa)


def test_a_single_judgement_says_nothing():
    assert fleiss_kappa([[2, 0], [0, 2], [1, 0]]) == fleiss_kappa([[2, 0], [0, 2]])
    assert fleiss_kappa([[1, 0], [0, 1]]) == Agreement(0, 0.0, None, None)


@pytest.mark.parametrize("found", [cohen_kappa([]), fleiss_kappa([])])
def test_nothing_in_common_has_no_kappa(found):
    assert found == Agreement(0, 0.0, None, None)
    assert not found.is_enough


def test_always_the_same_verdict_has_no_kappa():
    assert cohen_kappa([("confirm", "confirm")] * 30).kappa is None
    assert fleiss_kappa([[2, 0]] * 30).kappa is None


def test_never_a_disagreement_is_no_proof_of_perfection():
    few = cohen_kappa([("a", "a"), ("b", "b")] * 5)
    many = cohen_kappa([("a", "a"), ("b", "b")] * 500)
    assert few.kappa == many.kappa == 1
    assert few.interval.high == many.interval.high == 1
    # Wilson's lower end of 10 of 10 is 0.722, chance 0.5: (0.722 - 0.5) / 0.5.
    assert few.interval.low == pytest.approx(0.4449, abs=1e-3)
    assert many.interval.low > 0.99
    assert fleiss_kappa([[2, 0], [0, 2]] * 5).interval.low == few.interval.low


def test_below_twenty_findings_is_too_few():
    assert not cohen_kappa([("a", "b")] * 19).is_enough
    assert cohen_kappa([("a", "b")] * 20).is_enough
