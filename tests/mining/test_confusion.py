from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from mining.confusion import ConfusionRow, confusion_matrix, top_confusions

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60)


@given(PAIRS)
def test_it_is_scikit_learns_matrix(pairs):
    true, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    found = confusion_matrix(true, predicted, 5)
    if pairs:
        expected = metrics.confusion_matrix(true, predicted, labels=range(5))
        assert np.array_equal(found, expected)
    assert found.sum() == len(pairs)


@given(PAIRS)
def test_the_confusions_are_all_the_errors(pairs):
    matrix = confusion_matrix([a for a, _ in pairs], [b for _, b in pairs], 5)
    rows = top_confusions(matrix, "abcde", 25)
    assert sum(row.count for row in rows) == sum(a != b for a, b in pairs)
    assert sum(row.share for row in rows) == pytest.approx(1.0 if rows else 0.0)
    assert all(row.actual != row.predicted for row in rows)


def test_ties_are_in_the_order_of_names():
    matrix = np.array([[0, 2, 2], [3, 0, 0], [2, 0, 9]])
    assert top_confusions(matrix, ["owl", "cat", "dog"], 3) == [
        ConfusionRow("cat", "owl", 3, 3 / 9),
        ConfusionRow("dog", "owl", 2, 2 / 9),
        ConfusionRow("owl", "cat", 2, 2 / 9),
    ]


@pytest.mark.parametrize(
    ("true", "predicted"), [([0, 1], [0]), ([5], [0]), ([0], [-1]), ([[0]], [[0]])]
)
def test_it_refuses_input_that_does_not_fit(true, predicted):
    with pytest.raises(ValueError, match="must be"):
        confusion_matrix(true, predicted, 2)


def test_it_refuses_names_that_are_not_the_matrixs():
    with pytest.raises(ValueError, match="for 3 classes"):
        top_confusions(np.zeros((2, 2), int), ["a", "b", "c"], 1)
