from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from mining.guards import Candidate, hold_aside


def one(sample, **given):
    plain = {
        "key": f"{sample}.png", "digest": f"{sample:064x}", "label": "cat",
        "verdict": "confirm", "causes": (), "p_true": 0.1,
    }  # fmt: skip
    return Candidate(sample, **plain | given)


CASES = {
    "plain": ({}, None),
    "ambiguous": ({"causes": ("ambiguous",)}, "ambiguous"),
    "out of scope, corrected": (
        {"causes": ("out_of_scope",), "verdict": "relabel"},
        "ambiguous",
    ),
    "doubted": ({"is_doubted": True}, "label_suspect"),
    "doubted, two said so": ({"is_doubted": True, "is_seconded": True}, None),
    "doubted, corrected": ({"is_doubted": True, "verdict": "relabel"}, None),
    "named wrong": ({"causes": ("label_wrong",)}, "label_suspect"),
    "named wrong, corrected": (
        {"causes": ("label_wrong",), "verdict": "relabel"},
        None,
    ),
    "outlier": ({"is_outlier": True}, "outlier"),
    "outlier by its cause": ({"is_outlier": True, "causes": ("blur",)}, None),
    "outlier, corrected": ({"is_outlier": True, "verdict": "relabel"}, None),
    "the first reason counts": ({"is_doubted": True, "is_outlier": True}, "label_suspect"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "reason"), CASES.values(), ids=CASES)
def test_each_reason_holds_what_it_is_for(given, reason):
    found = hold_aside([one(1, **given)], {})
    assert found == ({0: reason} if reason else {})
    if reason and reason != "label_suspect":
        assert hold_aside([one(1, **given)], {}, include=[reason]) == {}


def test_what_is_let_in_for_one_reason_may_be_held_for_the_next():
    both = one(1, is_doubted=True, is_outlier=True)
    assert hold_aside([both], {}, include=["label_suspect"]) == {0: "outlier"}


def test_of_equal_and_nearly_equal_images_the_hardest_is_kept():
    same = "ab" * 32
    rows = [
        one(1, digest=same, p_true=0.3),
        one(2, digest=same, p_true=0.2),
        one(3, p_true=0.1),
        one(4, p_true=0.4),
    ]
    found = hold_aside(rows, {3: {2}, 2: {3}})
    # 2 looks like 3, which is harder; then 1 is the only one with its bytes.
    assert found == {1: "duplicate"}
    assert hold_aside(rows, {3: {2}, 2: {3}}, include=["duplicate"]) == {}


def test_a_correction_is_never_a_duplicate_and_a_hard_copy_of_it_is():
    same = "ab" * 32
    rows = [
        one(1, digest=same, p_true=0.0),
        one(2, digest=same, verdict="relabel", p_true=0.9),
        one(3, digest=same, verdict="relabel", p_true=0.8),
    ]
    assert hold_aside(rows, {}) == {0: "duplicate"}


def test_one_image_with_two_answers_is_in_doubt_whoever_gave_them():
    rows = [
        one(1, digest="ab" * 32),
        one(2, digest="ab" * 32, label="dog", verdict="relabel"),
    ]
    assert hold_aside(rows, {}) == {0: "label_suspect", 1: "label_suspect"}


def test_a_sample_found_by_two_models_is_no_duplicate_and_held_as_a_whole():
    rows = [one(1), one(1, p_true=0.5)]
    assert hold_aside(rows, {}) == {}
    rows[1] = replace(rows[1], causes=("ambiguous",))
    assert hold_aside(rows, {}) == {0: "ambiguous", 1: "ambiguous"}


def test_the_order_of_the_candidates_changes_nothing():
    rows = [one(i, digest=f"{i // 3:064x}", p_true=(7 * i % 10) / 10) for i in range(9)]
    held = {rows[place].sample for place in hold_aside(rows, {})}
    again = {rows[::-1][place].sample for place in hold_aside(rows[::-1], {})}
    assert held == again
    assert Counter(sample // 3 for sample in held) == {0: 2, 1: 2, 2: 2}
