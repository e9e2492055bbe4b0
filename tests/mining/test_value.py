"""The closed form of a fix's worth against scikit-learn on the mended matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from mining.value import fix_gains, fixable_share, review_minutes


def scores(matrix: np.ndarray) -> tuple[float, float]:
    """Accuracy and macro-F1 of the classes with a sample, by scikit-learn."""
    true, predicted = np.nonzero(matrix)
    weight = matrix[true, predicted]
    classes = np.flatnonzero(matrix.sum(1))
    return (
        accuracy_score(true, predicted, sample_weight=weight),
        f1_score(
            true,
            predicted,
            labels=classes,
            average="macro",
            sample_weight=weight,
            zero_division=0,
        ),
    )


def gains_of(matrix: np.ndarray):
    true, predicted = np.nonzero(matrix)
    return fix_gains(true, predicted, matrix[true, predicted])


def check(matrix: np.ndarray) -> None:
    gains = gains_of(matrix)
    before = scores(matrix)
    off = [(a, b) for a, b in zip(*np.nonzero(matrix), strict=True) if a != b]
    assert list(zip(gains.true, gains.predicted, strict=True)) == off
    for i, (a, b) in enumerate(off):
        mended = matrix.copy()
        mended[a, a] += mended[a, b]
        mended[a, b] = 0
        after = scores(mended)
        assert gains.accuracy[i] == pytest.approx(after[0] - before[0], abs=1e-12)
        assert gains.macro_f1[i] == pytest.approx(after[1] - before[1], abs=1e-12)
        assert gains.count[i] == matrix[a, b]
        assert gains.support[i] == matrix[a].sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10_000))
def test_it_gains_what_the_mended_matrix_scores(n: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).poisson(1.5, (n, n))
    matrix[0, 1] += 1
    check(matrix)


def test_a_class_without_a_sample_is_in_no_mean() -> None:
    check(np.array([[5, 0, 3], [1, 4, 0], [0, 0, 0]]))


def test_labels_may_be_any_numbers() -> None:
    gains = fix_gains(
        np.array([900, 900, 7]), np.array([900, 7, 7]), np.array([6, 2, 2])
    )
    assert (gains.true.tolist(), gains.predicted.tolist()) == ([900], [7])
    assert gains.accuracy.tolist() == [0.2]
    # F1 of 900: 12/14 -> 1; of 7: 4/6 -> 1.
    assert gains.macro_f1[0] == pytest.approx((1 - 12 / 14 + 1 - 4 / 6) / 2)


def test_a_small_class_gains_more_macro_f1_with_the_same_errors() -> None:
    gains = gains_of(np.array([[95, 5, 0], [0, 100, 0], [0, 5, 5]]))
    assert gains.accuracy[0] == gains.accuracy[1]
    assert gains.macro_f1[1] > 4 * gains.macro_f1[0]


def test_a_thousand_classes_with_ten_thousand_confusions() -> None:
    rng = np.random.default_rng(3)
    matrix = np.zeros((1000, 1000), np.int64)
    matrix[rng.integers(0, 1000, 10_000), rng.integers(0, 1000, 10_000)] = 3
    matrix[np.diag_indices(1000)] = 200
    gains = gains_of(matrix)
    worst = int(gains.macro_f1.argmax())
    a, b = gains.true[worst], gains.predicted[worst]
    mended = matrix.copy()
    mended[a, a] += mended[a, b]
    mended[a, b] = 0
    expected = scores(mended)[1] - scores(matrix)[1]
    assert gains.macro_f1[worst] == pytest.approx(expected, abs=1e-12)


def test_nothing_is_no_gain() -> None:
    empty = np.array([], np.int64)
    assert len(fix_gains(empty, empty, empty).count) == 0


@pytest.mark.parametrize(
    ("true", "predicted", "count"),
    [([0], [1, 2], [1]), ([-1], [1], [1]), ([0], [1], [0])],
)
def test_it_refuses_what_is_no_matrix(
    true: list[int], predicted: list[int], count: list[int]
) -> None:
    with pytest.raises(ValueError, match="must"):
        fix_gains(np.array(true), np.array(predicted), np.array(count))


def test_the_share_starts_at_one_half_and_follows_the_verdicts() -> None:
    found = fixable_share(np.array([0, 1, 0, 900]), np.array([0, 1, 1, 1000]))
    assert found == pytest.approx([1 / 2, 2 / 3, 1 / 3, 901 / 1002])


def test_what_is_reviewed_costs_one_verdict() -> None:
    assert review_minutes(np.array([0, 1, 30]), 6.0).tolist() == [0.1, 0.1, 3.0]
