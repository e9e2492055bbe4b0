"""What a retrained model gained is known beforehand here, sample by sample."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining.credit import Fix
from mining.pairing import ScanColumns
from mining.proof import SUBSETS, Images, Material, prove
from mining.statistics import holm, mcnemar_exact, paired_difference

NAMES = "abc"
ROWS = st.lists(
    st.tuples(*[st.integers(0, 2)] * 4, st.booleans(), st.booleans()),
    min_size=1,
    max_size=40,
)


def columns(true, predicted, *, ids=None, hashes=None) -> ScanColumns:
    ids = np.arange(100, 100 + len(true)) if ids is None else np.array(ids)
    keys = pa.array([str(pk) for pk in ids], pa.string())
    return ScanColumns(
        classes=tuple(NAMES),
        id=ids,
        key=keys,
        digest=keys,  # every image is its own
        true=np.array(true, np.int64),
        predicted=np.array(predicted, np.int64),
        phash=pa.array(hashes or [None] * len(ids), pa.int64()),
    )


def material(rows, *, has_control=True, **fields) -> Material:
    """Take rows of (true, before, after, control, reviewed, trained)."""
    true, before, after, control, reviewed, trained = zip(*rows, strict=True)
    marked = (
        Images({str(n) for n, is_it in enumerate(marks, 100) if is_it})
        for marks in (reviewed, trained)
    )
    return Material(
        columns(true, before),
        columns(true, after),
        columns(true, control) if has_control else None,
        reviewed=next(marked),
        trained=next(marked),
        **fields,
    )


def world(*counts) -> list[tuple]:
    """Return untouched samples: (how many, true, before, after, control)."""
    return [(*each, False, False) for many, *each in counts for _ in range(many)]


@given(ROWS)
def test_the_subsets_part_the_samples(rows):
    proof = prove(material(rows))
    sizes = {
        subset: part.comparison.n for subset, part in proof.parts["corrected"].items()
    }
    seen = proof.seen
    assert sizes["whole"] == proof.samples == len(rows)
    assert sizes.get("reviewed", 0) == seen.reviewed == sum(row[4] for row in rows)
    only_trained = seen.trained - seen.both
    assert sizes.get("untouched", 0) + seen.reviewed + only_trained == len(rows)
    assert seen.copies == seen.trained
    assert (proof.verdict == "nothing") is (sizes.get("untouched", 0) == 0)
    assert proof.parts["original"].keys() == proof.parts["corrected"].keys()


@given(ROWS)
def test_the_other_way_round_every_sign_is_turned(rows):
    there = prove(material(rows))
    back = prove(material([(t, a, b, *rest) for t, b, a, *rest in rows]))
    turned = {"gain": "loss", "loss": "gain"}
    assert back.verdict == turned.get(there.verdict, there.verdict)
    assert back.needed == there.needed
    for subset in SUBSETS & there.parts["corrected"].keys():
        one = there.parts["corrected"][subset].comparison.difference
        other = back.parts["corrected"][subset].comparison.difference
        assert other.difference == -one.difference
        assert other.interval.low == pytest.approx(-one.interval.high)
        assert other.p == one.p


@given(ROWS, st.lists(st.tuples(*[st.sampled_from(NAMES)] * 2), max_size=5))
def test_the_credit_adds_up_to_the_gain(rows, pairs):
    fixes = [Fix(a, b, ("pose", "blur") if a < b else ()) for a, b in pairs if a != b]
    proof = prove(material(rows, fixes=fixes))
    part = proof.parts["corrected"].get("untouched")
    if not fixes or part is None:
        assert proof.credit is None
        return
    credit, found = proof.credit, part.comparison
    bought = sum(row.bought for row in credit.confusions)
    assert bought + credit.elsewhere == found.fixed.count - found.broken.count
    assert sum(row.bought for row in credit.causes) == pytest.approx(bought)
    assert sum(row.findings for row in credit.causes) == pytest.approx(len(fixes))
    of_control = sum(row.control for row in credit.confusions)
    gain = proof.control.gain.difference * found.n
    assert of_control + credit.control_elsewhere == pytest.approx(gain)
    assert sum(row.control for row in credit.causes) == pytest.approx(of_control)


@given(ROWS)
def test_gain_and_control_and_what_is_over_fit_together(rows):
    proof = prove(material(rows))
    if proof.verdict == "nothing":
        assert proof.control is None
        return
    gain = proof.parts["corrected"]["untouched"].comparison.difference.difference
    control = proof.control
    assert control.gain.difference + control.over.difference == pytest.approx(gain)
    if control.share is not None:
        assert proof.verdict == "gain"
        assert control.share.value == pytest.approx(control.gain.difference / gain)
        assert control.share.interval.low <= control.share.value
        assert control.share.value <= control.share.interval.high


def test_a_gain_is_claimed_with_its_control_and_its_credit():
    rows = world(
        (60, 0, 0, 0, 0),  # right all along
        (30, 0, 1, 0, 1),  # a as b: mended, by the control not
        (10, 0, 1, 0, 0),  # mended by both
        (4, 0, 0, 1, 0),  # broken
        (6, 1, 2, 1, 2),  # b as c: nobody fixed that, it went away anyway
        (5, 1, 1, 2, 1),
    )
    fixes = [Fix("a", "b", ("pose",))] * 3 + [Fix("a", "b")]

    proof = prove(material(rows, fixes=fixes))

    assert (proof.verdict, proof.samples) == ("gain", 115)
    part = proof.parts["corrected"]["untouched"]
    assert part.comparison.difference == paired_difference(46, 9, 115)
    (claimed,) = part.claimed
    assert (claimed.actual, claimed.predicted) == ("a", "b")
    assert (claimed.before, claimed.after) == (40, 4)
    assert claimed.p == claimed.by_holm == mcnemar_exact(40, 4)
    (other,) = part.others
    assert (other.actual, other.before, other.after) == ("b", 6, 5)
    assert other.by_holm == holm([mcnemar_exact(40, 4), mcnemar_exact(6, 5)])[1]

    assert proof.control.right == 79
    assert proof.control.gain == paired_difference(10, 0, 115)
    assert proof.control.over == paired_difference(36, 9, 115)
    assert proof.control.share.value == pytest.approx(10 / 37)

    (row,) = proof.credit.confusions
    assert (row.findings, row.fixed, row.broken, row.bought) == (4, 40, 4, 36)
    assert (row.control, proof.credit.elsewhere) == (10, 1)
    assert proof.credit.control_elsewhere == 0
    assert [
        (c.cause, c.findings, c.bought, c.control) for c in proof.credit.causes
    ] == [
        ("pose", 3, 27, 7.5),
        ("", 1, 9, 2.5),
    ]


def test_what_could_be_luck_is_no_gain_and_has_no_share():
    rows = world((90, 0, 0, 0, 0), (6, 0, 1, 0, 0), (3, 0, 0, 1, 0))
    proof = prove(material(rows))
    assert (proof.verdict, proof.control.share) == ("none", None)
    assert proof.needed == 775
    same = prove(material(world((5, 0, 0, 0, 0), (5, 0, 1, 1, 1))))
    assert (same.verdict, same.needed) == ("none", None)


def test_a_model_that_got_worse_is_a_loss_of_which_nothing_has_a_part():
    proof = prove(material(world((50, 0, 0, 0, 0), (30, 0, 0, 1, 1))))
    assert (proof.verdict, proof.control.share) == ("loss", None)


def test_what_looks_like_a_trained_image_is_not_untouched():
    hashes = [0b1111, 0, 1 << 60, -1]
    scan = columns([0, 0, 0, 0], [0, 1, 0, 1], hashes=hashes)
    proof = prove(
        Material(scan, scan, trained=Images({"103"}, {0}), reviewed=Images({"103"}))
    )
    assert (proof.seen.trained, proof.seen.copies, proof.seen.both) == (4, 1, 1)
    near = prove(Material(scan, scan, trained=Images({"103"}, {~0b11111})))
    assert near.seen.trained == 1
    assert near.parts["corrected"]["untouched"].comparison.n == 3


def test_both_kinds_of_labels_score_their_own_way():
    scans = columns([0, 0], [0, 0]), columns([0, 0], [1, 0])
    labels = {"corrected": {100: "b"}, "original": {100: "a"}}
    proof = prove(Material(*scans, labels=labels))
    assert proof.relabelled == 1
    found = {kind: parts["untouched"].comparison for kind, parts in proof.parts.items()}
    corrected, original = found["corrected"], found["original"]
    assert (corrected.baseline.right, corrected.candidate.right) == (1, 2)
    assert (original.baseline.right, original.candidate.right) == (2, 1)


def test_a_control_that_lacks_samples_or_names_classes_otherwise():
    before, after = columns([0, 1, 2], [1, 1, 1]), columns([0, 1, 2], [0, 1, 2])
    other = columns([2, 0], [2, 0], ids=[100, 102])
    control = ScanColumns(
        ("c", "b", "a"), *(getattr(other, name) for name in other.__slots__[1:])
    )
    proof = prove(Material(before, after, control))
    assert (proof.samples, proof.left_out, proof.control.right) == (2, 1, 2)


def test_of_nothing_in_common_there_is_no_proof():
    proof = prove(Material(columns([0], [0], ids=[1]), columns([0], [0], ids=[2])))
    assert (proof.verdict, proof.samples, proof.left_out) == ("nothing", 0, 2)
    assert proof.parts == {"corrected": {}, "original": {}}


def test_a_fix_of_a_class_that_the_model_does_not_know_claims_nothing():
    proof = prove(material(world((4, 1, 2, 1, 1)), fixes=[Fix("b", "zebra")]))
    (row,) = proof.parts["corrected"]["untouched"].claimed
    assert (row.before, row.after, row.p) == (0, 0, 1.0)
    assert (proof.credit.confusions[0].bought, proof.credit.elsewhere) == (0, 4)
