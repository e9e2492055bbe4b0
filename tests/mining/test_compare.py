from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from mining.compare import CHANGES, ConfusionChange, NothingToCompare, compare
from mining.confusion import confusion_matrix
from mining.pairing import Pairs, ScanColumns, pair
from mining.statistics import holm, mcnemar_exact, wilson

TRIPLES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
    min_size=1,
    max_size=60,
)


def paired(triples, *, classes=tuple("abcde")) -> Pairs:
    """Pair up (true, what the baseline says, what the candidate says); ids from 100."""
    ids = np.arange(100, 100 + len(triples))
    keys = pa.array(map(str, ids))
    true, before, after = np.array(triples, np.int64).reshape(-1, 3).T
    no_hash = pa.nulls(len(ids), pa.int64())
    scans = (
        ScanColumns(classes, ids, keys, keys, true, predicted, no_hash)
        for predicted in (before, after)
    )
    return pair(*scans)


@given(TRIPLES)
def test_comparing_partitions_the_samples(triples):
    found = compare(paired(triples))
    cells = found.both_right, found.fixed, found.broken, found.both_wrong
    ids = np.concatenate([cell.ids for cell in cells])
    assert sorted(ids.tolist()) == list(range(100, 100 + len(triples)))
    assert [cell.count for cell in cells] == [len(cell.ids) for cell in cells]
    assert found.n == len(triples)
    for number in found.fixed.ids:
        true, before, after = triples[number - 100]
        assert before != true == after
    for number in found.broken.ids:
        true, before, after = triples[number - 100]
        assert before == true != after


@given(TRIPLES)
def test_every_error_is_in_one_confusion(triples):
    found = compare(paired(triples))
    rows = found.confusions.rows()
    assert sum(row.before for row in rows) == found.n - found.baseline.right
    assert sum(row.after for row in rows) == found.n - found.candidate.right
    assert sum(row.both for row in rows) <= found.both_wrong.count
    assert sum(found.confusions.counts().values()) == len(rows)
    for change in CHANGES:
        some = found.confusions.rows(change=change)
        assert len(some) == found.confusions.counts()[change]
        assert some == [row for row in rows if row.change == change]


@given(TRIPLES)
def test_the_confusions_are_those_of_the_two_matrices(triples):
    true, before, after = zip(*triples, strict=True)
    old, new = (confusion_matrix(true, said, 5) for said in (before, after))
    found = compare(paired(triples)).confusions.rows()
    assert {(row.actual, row.predicted): (row.before, row.after) for row in found} == {
        ("abcde"[a], "abcde"[b]): (old[a, b], new[a, b])
        for a in range(5)
        for b in range(5)
        if a != b and old[a, b] + new[a, b]
    }


@given(TRIPLES)
def test_the_figures_are_scikit_learns(triples):
    true, *said = zip(*triples, strict=True)
    found = compare(paired(triples))
    for figures, predicted in zip((found.baseline, found.candidate), said, strict=True):
        assert figures.accuracy == pytest.approx(
            metrics.accuracy_score(true, predicted)
        )
        assert figures.interval == wilson(figures.right, len(true))
        precision, recall, f1, support = metrics.precision_recall_fscore_support(
            true, predicted, labels=range(5), zero_division=np.nan
        )
        np.testing.assert_allclose(figures.precision, precision)
        np.testing.assert_allclose(figures.recall, recall)
        np.testing.assert_allclose(figures.f1, f1)
        assert found.support.tolist() == support.tolist()
        assert figures.macro_f1 == pytest.approx(
            metrics.f1_score(
                true,
                predicted,
                labels=sorted(set(true)),
                average="macro",
                zero_division=0,
            )
        )


@given(TRIPLES, st.sets(st.integers(100, 160)))
def test_without_some_samples_it_is_as_if_they_had_not_been_scanned(triples, leaked):
    rest = [row for n, row in enumerate(triples, 100) if n not in leaked]
    if not rest:
        with pytest.raises(NothingToCompare, match="Nothing was compared"):
            compare(paired(triples), without=leaked)
        return
    found = compare(paired(triples), without=leaked)
    expected = compare(paired(rest))
    assert (found.n, found.removed) == (len(rest), len(triples) - len(rest))
    assert found.difference == expected.difference
    assert found.baseline.macro_f1 == expected.baseline.macro_f1
    assert found.confusions.rows() == expected.confusions.rows()
    assert not leaked & set(found.fixed.ids.tolist())


def test_each_way_to_change_is_named():
    triples = [
        *[(0, 1, 0)] * 2,  # a as b: fixed
        *[(0, 2, 2), (0, 2, 0)],  # a as c: fewer
        *[(1, 0, 1), (1, 1, 0)],  # b as a: as many, of other samples
        *[(2, 0, 0), (2, 2, 0)],  # c as a: more
        *[(3, 3, 4)],  # d as e: broken
    ]
    rows = compare(paired(triples)).confusions.rows()
    assert rows == [
        ConfusionChange("a", "b", 2, 0, 0, "fixed", 0.5),
        ConfusionChange("a", "c", 2, 1, 1, "fewer", 1.0),
        ConfusionChange("c", "a", 1, 2, 1, "more", 1.0),
        ConfusionChange("d", "e", 0, 1, 0, "broken", 1.0),
        ConfusionChange("b", "a", 1, 1, 0, "unchanged", 1.0),
    ]


def test_cells_keep_as_many_ids_as_asked_for():
    found = compare(paired([(0, 0, 0)] * 5), most=2)
    assert (found.both_right.count, found.both_right.ids.tolist()) == (5, [100, 101])
    assert len(compare(paired([(0, 0, 0)]), most=0).both_right.ids) == 0
    with pytest.raises(ValueError, match="most must be 0 or more"):
        compare(paired([(0, 0, 0)]), most=-1)


def test_nothing_in_common_cannot_be_compared():
    with pytest.raises(NothingToCompare):
        compare(paired([]))


def test_a_hundred_thousand_classes_need_no_matrix():
    classes = tuple(map(str, range(100_000)))
    found = compare(paired([(99_999, 99_998, 99_999)] * 6, classes=classes))
    (row,) = found.confusions.rows()
    assert (row.actual, row.predicted, row.change) == ("99999", "99998", "fixed")
    assert row.p == 2 / 2**6


def test_the_story_of_467_errors_of_2451_and_then_312():
    """Before a fix the top confusion had 23 errors; the next scan has 312 errors."""
    triples = [
        *[(0, 1, 0)] * 20,  # cat as dog, 23 before: 20 are fixed,
        *[(0, 1, 1)] * 3,  # 3 remain
        *[(0, 0, 1)] * 1,  # and 1 is new
        *[(1, 2, 1)] * 9,  # dog as owl, 21 before: 9 are fixed,
        *[(1, 2, 2)] * 12,  # 12 remain
        *[(1, 1, 2)] * 6,  # and 6 are new
        *[(2 + n % 22, (3 + n) % 24, 2 + n % 22) for n in range(148)],
        *[(2 + n % 22, (3 + n) % 24, (3 + n) % 24) for n in range(275)],
        *[(2 + n % 22, 2 + n % 22, 1) for n in range(15)],
    ]
    triples += [(n % 24, n % 24, n % 24) for n in range(2451 - len(triples))]
    classes = ("cat", "dog", "owl", *map(str, range(21)))
    found = compare(paired(triples, classes=classes))
    assert found.n == 2451
    assert (found.n - found.baseline.right, found.n - found.candidate.right) == (
        467,
        312,
    )
    assert (found.fixed.count, found.broken.count) == (177, 22)
    assert (found.both_wrong.count, found.both_right.count) == (290, 1962)
    assert found.difference.difference == pytest.approx(155 / 2451)
    assert found.difference.p == mcnemar_exact(177, 22) < 1e-29
    assert found.difference.interval.low > 0.05
    assert found.negative_flip_rate == 22 / 2451
    rows = {(row.actual, row.predicted): row for row in found.confusions.rows()}
    assert max(row.before for row in rows.values()) == 23
    claimed = rows["cat", "dog"], rows["dog", "owl"]
    assert (claimed[0].before, claimed[0].after, claimed[0].change) == (23, 4, "fewer")
    assert (claimed[1].before, claimed[1].after, claimed[1].change) == (21, 18, "fewer")
    first, second = holm([row.p for row in claimed])
    assert first == 2 * mcnemar_exact(20, 1) < 0.05  # this part is no luck
    assert second == mcnemar_exact(9, 6) > 0.6  # and this one may be
