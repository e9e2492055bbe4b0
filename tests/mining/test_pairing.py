from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.artefact import write_outcomes
from mining.exceptions import ArtefactError
from mining.pairing import (
    Difference,
    ScanColumns,
    ScansDiffer,
    leaked,
    pair,
    read_columns,
)
from tests.mining.outcomes import outcome

CLASSES = ("cat", "dog", "owl")


def columns(rows, *, classes=CLASSES, phash=None) -> ScanColumns:
    """Make a scan of (id, true, predicted) or (id, true, predicted, digest)."""
    rows = [(*row, f"image {row[0]}")[:4] for row in rows]
    ids, true, predicted, digest = zip(*rows, strict=True) if rows else ((),) * 4
    return ScanColumns(
        classes,
        np.array(ids, np.int64),
        pa.array([f"{name}.png" for name in ids], pa.string()),
        pa.array(digest, pa.string()),
        np.array(true, np.int64),
        np.array(predicted, np.int64),
        pa.array(phash or [None] * len(rows), pa.int64()),
    )


def test_it_reads_an_artefact(tmp_path):
    path = tmp_path / "scan.parquet"
    outcomes = [outcome(1), outcome(2, predicted=None, look=None, error="cut off")]
    write_outcomes(path, outcomes, classes=CLASSES)
    found = read_columns(path)
    assert found.classes == CLASSES
    assert found.id.tolist() == [1, 2]
    assert found.key.to_pylist() == ["1.png", "2.png"]
    assert found.digest.to_pylist() == [f"{1:064x}", f"{2:064x}"]
    assert (found.true.tolist(), found.predicted.tolist()) == ([0, 0], [1, -1])
    assert found.phash.to_pylist() == [1, None]
    pairs = pair(found, found)
    assert (pairs.id.tolist(), pairs.unreadable) == ([1], 1)


def test_it_reads_an_artefact_of_no_sample(tmp_path):
    write_outcomes(tmp_path / "none.parquet", [], classes=CLASSES)
    found = read_columns(tmp_path / "none.parquet")
    assert len(pair(found, found).id) == 0


def test_it_refuses_an_artefact_without_classes(tmp_path):
    write_outcomes(tmp_path / "scan.parquet", [outcome(1)])
    with pytest.raises(ArtefactError, match=r"scan\.parquet does not name its classes"):
        read_columns(tmp_path / "scan.parquet")


def test_it_refuses_a_damaged_artefact(tmp_path):
    (tmp_path / "scan.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ArtefactError, match=r"scan\.parquet cannot be read"):
        read_columns(tmp_path / "scan.parquet")


def test_the_order_of_the_candidate_does_not_matter():
    baseline = columns([(5, 0, 0), (3, 1, 2), (9, 2, 1)])
    candidate = columns([(9, 2, 2), (5, 0, 1), (3, 1, 0)])
    pairs = pair(baseline, candidate)
    assert pairs.id.tolist() == [5, 3, 9]
    assert pairs.true.tolist() == [0, 1, 2]
    assert pairs.baseline.tolist() == [0, 2, 1]
    assert pairs.candidate.tolist() == [1, 0, 2]
    assert pairs.digest.to_pylist() == ["image 5", "image 3", "image 9"]


def test_classes_are_matched_by_name():
    baseline = columns([(1, 0, 1)])
    candidate = columns([(1, 2, 0)], classes=("emu", "dog", "cat"))
    pairs = pair(baseline, candidate)
    assert pairs.classes == ("cat", "dog", "owl", "emu")
    assert (pairs.true.tolist(), pairs.candidate.tolist()) == ([0], [3])


def test_it_refuses_scans_that_differ_and_says_which_samples():
    baseline = columns([(n, 0, 0) for n in range(8)] + [(20, 0, 0), (21, 0, 0)])
    candidate = columns([(20, 1, 0), (21, 0, 0, "edited"), (30, 0, 0)])
    with pytest.raises(ScansDiffer) as refusal:
        pair(baseline, candidate)
    found = refusal.value.differences
    keys = tuple(f"{n}.png" for n in range(5))
    assert found.only_in_baseline == Difference(8, keys)
    assert found.only_in_candidate == Difference(1, ("30.png",))
    assert found.other_label == Difference(1, ("20.png",))
    assert found.other_image == Difference(1, ("21.png",))
    assert found.count == 11
    message = str(refusal.value)
    assert "only in baseline: 8 (0.png, 1.png, 2.png, 3.png, 4.png and 3 more)" in (
        message
    )
    assert "other label: 1 (20.png)\n  other image: 1 (21.png)" in message
    assert "Nothing was compared." in message


def test_what_they_have_in_common_can_be_compared():
    baseline = columns([(1, 0, 0), (2, 0, 0), (3, 0, 1), (4, 0, 0)])
    candidate = columns([(9, 0, 0), (3, 0, 0), (2, 1, 0), (4, 0, 0, "edited")])
    pairs = pair(baseline, candidate, intersection=True)
    assert pairs.id.tolist() == [3]
    assert (pairs.baseline.tolist(), pairs.candidate.tolist()) == ([1], [0])
    assert pairs.left_out.only_in_baseline.keys == ("1.png",)
    assert pairs.left_out.count == 4


def test_an_image_that_one_could_not_read_is_left_out_and_counted():
    baseline = columns([(1, 0, 0), (2, 0, -1, ""), (3, 1, 1)])
    candidate = columns([(1, 0, -1), (2, 0, 0), (3, 1, 1)])
    pairs = pair(baseline, candidate)
    assert (pairs.id.tolist(), pairs.unreadable) == ([3], 2)


def test_both_are_scored_with_the_labels_given():
    baseline = columns([(1, 0, 1), (2, 0, 0), (3, 0, 0)])
    candidate = columns([(1, 1, 1), (2, 0, 0), (3, 0, 0)])
    with pytest.raises(ScansDiffer):
        pair(baseline, candidate)  # the second came after the first was relabelled
    corrected = pair(baseline, candidate, labels={1: "dog", 3: "bee", 77: "owl"})
    assert corrected.true.tolist() == [1, 0, corrected.classes.index("bee")]
    assert corrected.relabelled == 2
    original = pair(baseline, candidate, labels={1: "cat"})
    assert (original.true.tolist(), original.relabelled) == ([0, 0, 0], 0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([1, 1, 2], [1, 2, 3]), ([1, 2, 3], [2, 1, 1]), ([1, 2], [1, 2, 2])],
)
def test_it_refuses_a_key_that_is_there_twice(ours, theirs):
    scans = [columns([(n, 0, 0) for n in numbers]) for numbers in (ours, theirs)]
    with pytest.raises(ValueError, match="same key twice"):
        pair(*scans, intersection=True)


IDS = st.lists(st.integers(0, 12), unique=True, max_size=10)
ROW = st.tuples(st.integers(0, 2), st.integers(-1, 2), st.sampled_from("xy"))


@given(IDS, IDS, st.lists(ROW, min_size=26, max_size=26))
def test_no_sample_is_lost_or_counted_twice(ours, theirs, values):
    baseline = columns([(n, *values[n]) for n in ours])
    candidate = columns([(n, *values[13 + n]) for n in theirs])
    pairs = pair(baseline, candidate, intersection=True)
    out = pairs.left_out
    alike = len(pairs.id) + pairs.unreadable + out.other_label.count
    assert alike + out.other_image.count == len(set(ours) & set(theirs))
    assert out.only_in_baseline.count == len(set(ours) - set(theirs))
    assert out.only_in_candidate.count == len(set(theirs) - set(ours))
    for place, name in enumerate(pairs.id.tolist()):
        true, predicted, digest = values[name]
        assert values[13 + name] == (true, pairs.candidate[place], digest)
        assert (true, predicted) == (pairs.true[place], pairs.baseline[place])


def test_leaks_are_found_by_digest():
    scan = columns([(n, 0, 0) for n in range(4)])
    found = leaked(pair(scan, scan), digests={"image 2", "image 0", "another"})
    assert found.tolist() == [0, 2]


WORD = 2**64
HASH = st.integers(0, WORD - 1)


def signed(number: int) -> int:
    return number - WORD if number >= WORD // 2 else number


@given(st.lists(HASH, min_size=1, max_size=20), st.data(), st.integers(0, 15))
def test_leaks_are_found_by_perceptual_hash_within_the_bound(hashes, data, bits):
    flips = st.lists(st.integers(0, 63), max_size=bits + 2, unique=True)
    marked = [
        number ^ sum(1 << place for place in data.draw(flips)) for number in hashes[:5]
    ]
    scan = columns(
        [(n, 0, 0) for n in range(len(hashes) + 1)],
        phash=[*map(signed, hashes), None],
    )
    found = leaked(pair(scan, scan), phashes=[*map(signed, marked)], bits=bits)
    assert found.tolist() == [
        place
        for place, number in enumerate(hashes)
        if min((number ^ mark).bit_count() for mark in marked) <= bits
    ]


def test_hashes_are_compared_in_portions(monkeypatch):
    monkeypatch.setattr("mining.pairing._AT_ONCE", 3)
    hashes = [n % 2 for n in range(9)]  # each shares most pieces with every other
    scan = columns([(n, 0, 0) for n in range(9)], phash=hashes)
    pairs = pair(scan, scan)
    assert leaked(pairs, phashes=[0, 6, 10, 12, 18], bits=0).tolist() == [0, 2, 4, 6, 8]
    assert leaked(pairs, phashes=[7, 14, 11], bits=2).tolist() == [1, 3, 5, 7]


def test_it_refuses_a_bound_that_tells_nothing_apart():
    scan = columns([(1, 0, 0)])
    with pytest.raises(ValueError, match="from 0 to 15, not 16"):
        leaked(pair(scan, scan), bits=16)
