from __future__ import annotations

import pytest

from mining.exceptions import BadManifest, ClassMismatch, ScanCountMismatch


@pytest.mark.parametrize(
    ("dataset", "kind"),
    [
        (("cat", "dog", "owl"), "count differs"),
        (("dog", "cat"), "reordered"),
        (("cat", "wolf"), "renamed"),
    ],
)
def test_a_class_mismatch_says_how_and_shows_both_lists(dataset, kind):
    error = ClassMismatch(model=("cat", "dog"), dataset=dataset)
    assert error.kind == kind
    assert f"({kind})" in str(error)
    assert "model (2): cat, dog" in str(error)
    assert f"data set ({len(dataset)}): {', '.join(dataset)}" in str(error)


def test_a_bad_manifest_lists_five_problems_and_counts_the_rest():
    text = str(BadManifest("m.csv", [f"line {n}: bad" for n in range(9)], count=1200))
    assert "m.csv has 1,200 problems" in text
    assert "line 4: bad" in text
    assert "line 5: bad" not in text
    assert "and 1,195 more" in text


def test_one_problem_is_not_several():
    text = str(BadManifest("m.csv", ["line 2: bad"]))
    assert "1 problem;" in text
    assert "more" not in text


def test_a_count_mismatch_gives_both_numbers():
    text = str(ScanCountMismatch(expected=1000, found=999))
    assert "999 outcomes for 1,000 samples" in text
