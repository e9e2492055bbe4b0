"""What the benchmark of the closed loop concludes from its figures."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks import closed_loop
from tests.benchmarks.closed_loop_orders import found, orders, score_of_queue


def test_what_a_queue_never_hands_out_comes_last():
    scores = score_of_queue(["c", "a"], ["a", "b", "c", "d"])
    assert np.argsort(-scores, kind="stable").tolist() == [2, 0, 1, 3]


def test_an_order_is_judged_by_its_first_hundred_and_as_a_whole():
    is_wrong = np.arange(200) < 50
    assert found(-np.arange(200.0), is_wrong) == {"p100": 0.5, "ap": 1.0}
    assert found(np.arange(200.0), is_wrong)["p100"] == 0.0


def test_the_orders_to_compare_with_are_their_formulas():
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])
    scores = orders(probs, np.array([0, 2]), seed=0)
    np.testing.assert_allclose(scores["1 - p_true"], [0.3, 0.7])
    np.testing.assert_allclose(scores["confidence"], [-0.7, 0.6])
    np.testing.assert_allclose(scores["cleanlab, normalised margin"], [-0.5, 0.3])


def measured(product: float, after: float, at_random: float) -> list[dict]:
    found = {"p100": product, "ap": product}
    others = {"random": {"p100": 0.15, "ap": 0.15}, "other": {"p100": 0.9, "ap": 0.9}}
    named = {"orders": {"the product": found, **others}}
    steps = {
        "start": 0.76, "restored_random": 0.77, "restored": 0.80,
        "after_random": at_random, "after": after, "wrong_before": 0.15,
        "wrong_after": 0.05, "pool_errors": 700, "samples": {"hard": 5},
        "claim": {"text": "A gain."},
    }  # fmt: skip
    return [
        {"seed": seed, "pair": named | {k: _moved(v, seed) for k, v in steps.items()}}
        for seed in range(3)
    ]


def _moved(value: object, seed: int) -> object:
    return value + seed / 1000 if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("product", "after", "at_random", "missed"),
    [
        (0.9, 0.845, 0.84, set()),
        (0.85, 0.845, 0.84, {"pair noise, p100: as good as other",
                             "pair noise, ap: as good as other"}),
        (0.9, 0.82, 0.81, {"after the pool: +6.5 points", "30 % fewer errors"}),
        (0.9, 0.845, 0.85, {"better than random additions"}),
    ],
)  # fmt: skip
def test_a_target_that_is_missed_is_told(product, after, at_random, missed, capsys):
    rows = measured(product, after, at_random)
    held = closed_loop.show_orders(rows, "pair") + closed_loop.show_steps(rows)
    assert {text for text, holds in held if not holds} == missed
    assert "the report: A gain." in capsys.readouterr().out
