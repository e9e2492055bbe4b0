from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier

from mining.slice_tree import Condition, slice_tree


def meets(condition: Condition, value: object) -> bool:
    """Say whether a value meets a condition, as its documentation has it."""
    is_missing = value in (None, "") or value != value
    match condition.sign:
        case "is":
            return is_missing if condition.value is None else value == condition.value
        case "is not":
            return not meets(
                Condition(condition.attribute, "is", condition.value), value
            )
        case "<=":
            return not is_missing and value <= condition.value
        case ">":
            return is_missing or value > condition.value


def planted(n: int = 2000) -> tuple[dict, np.ndarray]:
    """Make small night images wrong in half of the cases, others in one of twenty."""
    random = np.random.default_rng(1)
    columns = {
        "light": random.choice(["day", "night", "dusk"], n).tolist(),
        "width": random.integers(1, 21, n),
        "noise": random.random(n),
        "camera": random.choice(["a", "b"], n).tolist(),
    }
    is_hard = (np.array(columns["light"]) == "night") & (columns["width"] <= 8)
    return columns, random.random(n) < np.where(is_hard, 0.5, 0.05)


def test_it_finds_what_was_planted():
    columns, wrong = planted()
    first, *rest = slice_tree(columns, wrong)
    assert set(first.conditions) == {
        Condition("light", "is", "night"),
        Condition("width", "<=", 8.0),
    }
    assert first.figures.rate == pytest.approx(0.5, abs=0.08)
    assert first.figures.covered > 0.5
    assert first.p == 1 / 200
    assert all(leaf.p > 0.05 for leaf in rest)
    assert "noise" not in {c.attribute for leaf in rest for c in leaf.conditions}


def test_the_leaves_are_scikit_learns():
    random = np.random.default_rng(2)
    x = random.integers(0, 20, (4000, 2))
    wrong = random.random(4000) < np.where(
        x[:, 0] < 7, np.where(x[:, 1] < 11, 0.9, 0.5), np.where(x[:, 1] < 4, 0.3, 0.05)
    )
    columns = {"a": x[:, 0], "b": x[:, 1]}
    ours = slice_tree(columns, wrong, depth=2, min_size=50, permutations=1)
    tree = DecisionTreeClassifier(max_depth=2, min_samples_leaf=50, random_state=0)
    theirs = tree.fit(x, wrong).apply(x)
    expected = {tuple(np.flatnonzero(theirs == leaf)) for leaf in set(theirs)}
    assert {tuple(leaf.rows) for leaf in ours} == expected
    assert len(expected) == 4


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 30))
def test_the_leaves_share_out_the_samples_as_their_conditions_say(seed, depth, least):
    random = np.random.default_rng(seed)
    blur = np.where(random.random(150) < 0.1, math.nan, random.random(150).round(1))
    light = random.choice(["day", "night", ""], 150)
    camera = random.choice([None, "a", "b", "c"], 150)
    wrong = random.random(150) < np.where(light == "night", 0.7, 0.1) * (
        1 + (blur > 0.4)
    )
    columns = {"blur": blur, "light": light.tolist(), "camera": camera.tolist()}
    leaves = slice_tree(columns, wrong, depth=depth, min_size=least, permutations=1)
    rows = np.concatenate([leaf.rows for leaf in leaves])
    assert sorted(rows.tolist()) == list(range(150))
    for leaf in leaves:
        assert leaf.figures.size == len(leaf.rows) >= least
        assert leaf.figures.errors == wrong[leaf.rows].sum()
        assert leaf.rows.tolist() == [
            row
            for row in range(150)
            if all(meets(c, columns[c.attribute][row]) for c in leaf.conditions)
        ]
    rates = [leaf.figures.rate for leaf in leaves]
    assert rates == sorted(rates, reverse=True)


def test_missing_values_may_be_what_goes_with_errors():
    blur = np.where(np.arange(400) % 4 == 0, math.nan, np.arange(400) % 7)
    wrong = np.isnan(blur)
    first, second = slice_tree({"blur": blur}, wrong)
    assert first.figures.errors == 100
    assert first.conditions in (
        (Condition("blur", "is", None),),
        (Condition("blur", ">", 6.0),),
    )
    assert second.figures.errors == 0


def test_luck_is_seldom_taken_for_more():
    found = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        columns = {f"noise {n}": random.random(300) for n in range(6)}
        leaves = slice_tree(columns, random.random(300) < 0.2, permutations=39)
        found += min(leaf.p for leaf in leaves) <= 0.05
    assert found <= 5  # 2 are expected; more than 5 in one of seventy worlds


def test_the_same_seed_gives_the_same_leaves():
    columns, wrong = planted(500)
    one, other = (
        [(leaf.conditions, leaf.figures, leaf.p) for leaf in slice_tree(columns, wrong)]
        for _ in range(2)
    )
    assert one == other


def test_what_luck_gives_may_be_learnt_on_a_part(monkeypatch):
    columns, wrong = planted(20_000)
    monkeypatch.setattr("mining.slice_tree._LEARNT_ON", 1000)
    first, *rest = slice_tree(columns, wrong, permutations=19)
    assert (first.p, {leaf.p for leaf in rest}) == (1 / 20, {1.0})


def test_without_anything_to_part_by_there_is_one_leaf():
    wrong = np.arange(100) < 10
    for columns in ({}, {"same": ["x"] * 100}, {"noise": np.arange(100) % 2}):
        (leaf,) = slice_tree(columns, wrong)
        assert (leaf.conditions, leaf.p) == ((), 1.0)
        assert (leaf.figures.size, leaf.figures.lift) == (100, 1.0)


def test_without_errors_there_is_nothing_to_find():
    assert slice_tree({"light": ["day", "night"]}, np.zeros(2, bool)) == []


def test_where_all_is_wrong_there_is_one_leaf():
    (leaf,) = slice_tree({"n": np.arange(100)}, np.ones(100, bool))
    assert (leaf.figures.rate, leaf.p) == (1.0, 1.0)


@pytest.mark.parametrize(
    "options",
    [{"depth": 0}, {"depth": 4}, {"min_size": 0}, {"permutations": 0}],
    ids=str,
)
def test_it_refuses_numbers_out_of_their_range(options):
    with pytest.raises(ValueError, match="depth must be 1 to 3"):
        slice_tree({"n": np.arange(4)}, np.ones(4, bool), **options)


def test_it_refuses_a_column_of_another_length():
    with pytest.raises(ValueError, match="n has 4 values"):
        slice_tree({"n": np.arange(4)}, np.ones(5, bool))
