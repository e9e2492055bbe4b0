from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.ordering import ORDERS, order_classes, top_classes

NAMES = ["Owl", "cat", "dog 10", "dog 9", "bee"]
MATRIX = np.array(
    [
        [5, 0, 0, 0, 0],
        [0, 7, 0, 0, 2],
        [1, 0, 3, 6, 0],
        [0, 0, 4, 5, 0],
        [0, 9, 0, 0, 8],
    ]
)


def ordered(by: str) -> list[str]:
    return [NAMES[place] for place in order_classes(MATRIX, NAMES, by)]


def test_names_are_in_the_order_that_people_expect():
    assert ordered("name") == ["bee", "cat", "dog 9", "dog 10", "Owl"]
    names = ["7" * 5000, "img007b", "img7a", "8", "img10", "img"]
    found = order_classes(np.zeros((6, 6), int), names, "name")
    assert [names[place][:7] for place in found] == [
        "8",
        "7777777",
        "img",
        "img7a",
        "img007b",
        "img10",
    ]


def test_the_largest_class_is_first():
    assert ordered("size") == ["bee", "dog 10", "cat", "dog 9", "Owl"]


def test_the_class_with_most_errors_is_first():
    # 11 each for cat, dog 10 and bee: in the order of the index
    assert ordered("errors") == ["cat", "dog 10", "bee", "dog 9", "Owl"]


def test_confused_classes_are_side_by_side():
    found = ordered("cluster")
    assert abs(found.index("cat") - found.index("bee")) == 1
    assert abs(found.index("dog 9") - found.index("dog 10")) == 1


@pytest.mark.parametrize("n_classes", [60, 500])  # with the best order, and without
def test_groups_of_confused_classes_stay_together(n_classes):
    random = np.random.default_rng(0)
    group = random.permutation(np.arange(n_classes) // 5)
    matrix = np.where(group[:, None] == group[None, :], 4, 0)
    np.fill_diagonal(matrix, 30)
    found = group[order_classes(matrix, [""] * n_classes, "cluster")]
    assert (found[1:] != found[:-1]).sum() == n_classes / 5 - 1


@given(
    st.integers(0, 6).flatmap(
        lambda k: st.lists(st.integers(0, 3), min_size=k * k, max_size=k * k)
    ),
    st.sampled_from(ORDERS),
)
def test_every_class_is_there_once(counts, by):
    side = round(len(counts) ** 0.5)
    matrix = np.array(counts, np.int64).reshape(side, side)
    found = order_classes(matrix, [str(n) for n in range(side)], by)
    assert sorted(found.tolist()) == list(range(side))
    assert found.dtype == np.int64


def test_the_top_classes_have_the_most_errors():
    assert top_classes(MATRIX, 2).tolist() == [1, 2]
    assert top_classes(MATRIX, 4).tolist() == [1, 2, 3, 4]
    assert top_classes(MATRIX, 99).tolist() == [0, 1, 2, 3, 4]
    assert top_classes(MATRIX, 0).tolist() == []


def test_it_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="for 2 classes"):
        order_classes(MATRIX, ["a", "b"], "name")
    with pytest.raises(ValueError, match="not by luck"):
        order_classes(MATRIX, NAMES, "luck")
    with pytest.raises(ValueError, match="not defined"):
        top_classes(MATRIX, -1)
    with pytest.raises(ValueError, match="not defined"):
        top_classes(MATRIX[:3], 1)
