from __future__ import annotations

import pytest

from mining.exceptions import (
    BadCheckpoint,
    BadManifest,
    ClassMismatch,
    MiningError,
    ScanCountMismatch,
    UnreadableImage,
)


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


@pytest.mark.parametrize(
    "error",
    [
        MiningError("a\0b \udcff"),
        BadCheckpoint("a\0b \udcff"),
        UnreadableImage("a\0b \udcff"),
        BadManifest("a\0b \udcff", ["line 2: a\0b \udcff"]),
        ClassMismatch(model=("a\0b \udcff", "c"), dataset=("d",)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_message_is_storable_text(error):
    assert r"a\x00b \udcff" in str(error)
    assert "\0" not in str(error)
    str(error).encode()
    str(error.args).encode()


def test_the_parts_of_a_bad_manifest_are_storable_too():
    error = BadManifest("\0.csv", ["line 2: \ud800"])
    assert (error.file, error.problems) == (r"\x00.csv", (r"line 2: \ud800",))
