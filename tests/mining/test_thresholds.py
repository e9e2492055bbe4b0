from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from mining.artefact import write_outcomes
from mining.exceptions import ArtefactError
from mining.statistics import wilson
from mining.thresholds import (
    Confidences,
    band,
    cheapest_threshold,
    curves,
    read_confidences,
    reliability,
)
from tests.mining.outcomes import outcome

# Hundredths, so that ties and hits of a bin's edge are common.
SEEN = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 100)),
    min_size=1,
    max_size=50,
)


def seen(rows) -> Confidences:
    """Make (true, predicted, confidence in hundredths) into columns; ids from 100."""
    true, predicted, hundredths = np.array(rows, np.int64).reshape(-1, 3).T
    ids = np.arange(100, 100 + len(rows))
    confidence = (hundredths / 100).astype(np.float32)
    return Confidences(("cat", "dog", "owl"), ids, true, predicted, confidence)


def regular() -> Confidences:
    n = np.arange(1000)
    confidence = ((n * 37 % 1000 + 0.5) / 2000 + 0.5).astype(np.float32)
    true = (n % 3 + (n * n * 13 % 1000 >= 750)) % 3
    return Confidences(("cat", "dog", "owl"), n, true, n % 3, confidence)


def test_it_reads_only_what_could_be_read(tmp_path):
    path = tmp_path / "scan.parquet"
    outcomes = [outcome(1), outcome(2, predicted=None, error="cut off"), outcome(3)]
    write_outcomes(path, outcomes, classes=("cat", "dog"))
    found = read_confidences(path)
    assert found.classes == ("cat", "dog")
    assert (found.id.tolist(), found.predicted.tolist()) == ([1, 3], [1, 1])
    assert found.confidence.tolist() == pytest.approx([0.9, 0.9])
    assert not found.right.any()


def test_it_refuses_a_damaged_artefact(tmp_path):
    (tmp_path / "scan.parquet").write_bytes(b"")
    with pytest.raises(ArtefactError, match=r"scan\.parquet cannot be read"):
        read_confidences(tmp_path / "scan.parquet")


@pytest.mark.parametrize(
    ("bins", "error", "largest"),
    [(10, 0.1280000, 0.2150000), (15, 0.1219555, 0.2524642)],
)
def test_the_calibration_error_is_torchmetrics(bins, error, largest):
    # torchmetrics 1.9.0, multiclass_calibration_error with norm "l1" and "max"
    found = reliability(regular(), bins=bins)
    assert found.error == pytest.approx(error, abs=1e-6)
    assert found.largest == pytest.approx(largest, abs=1e-6)


@given(SEEN, st.integers(1, 20))
def test_the_bins_are_scikit_learns(rows, bins):
    columns = seen(rows)
    # Not on an edge: there, float32 and float64 may differ.
    confidence = np.clip(columns.confidence - np.float32(0.0037), 0.0001, 1)
    columns = Confidences(
        columns.classes, columns.id, columns.true, columns.predicted, confidence
    )
    found = reliability(columns, bins=bins)
    accuracy, sure = calibration_curve(columns.right, confidence, n_bins=bins)
    assert [each.accuracy for each in found.bins] == pytest.approx(accuracy.tolist())
    assert [each.confidence for each in found.bins] == pytest.approx(sure.tolist())


@given(SEEN, st.integers(1, 20))
def test_bins_of_equal_mass_keep_equal_confidences_together(rows, bins):
    columns = seen(rows)
    confidence = columns.confidence.tolist()
    highest = sorted(confidence)
    ends = sorted(
        {highest[math.ceil(k * len(rows) / bins) - 1] for k in range(1, bins + 1)}
    )
    groups = [[] for _ in ends]
    for sure, right in zip(confidence, columns.right, strict=True):
        groups[next(k for k, end in enumerate(ends) if sure <= end)].append(
            (sure, right)
        )
    found = reliability(columns, bins=bins, binning="mass")
    assert [each.count for each in found.bins] == [len(group) for group in groups]
    assert [each.high for each in found.bins] == ends
    assert found.error == pytest.approx(
        sum(abs(sum(sure - right for sure, right in group)) for group in groups)
        / len(rows)
    )


def test_bins_of_equal_mass_are_equal_without_ties():
    found = reliability(regular(), bins=8, binning="mass")
    assert [each.count for each in found.bins] == [125] * 8


@given(SEEN, st.sampled_from(["width", "mass"]))
def test_every_sample_is_in_one_bin(rows, binning):
    columns = seen(rows)
    found = reliability(columns, bins=7, binning=binning)
    assert sum(each.count for each in found.bins) == len(rows)
    hits = sum(each.accuracy * each.count for each in found.bins)
    assert hits == pytest.approx(columns.right.sum())
    for each in found.bins:
        assert each.low <= each.confidence + 1e-6
        assert each.confidence <= each.high + 1e-6
        assert each.interval == wilson(round(each.accuracy * each.count), each.count)
    gaps = [abs(each.confidence - each.accuracy) for each in found.bins]
    assert found.largest == pytest.approx(max(gaps))


def test_a_confidence_on_an_edge_is_in_the_bin_below():
    found = reliability(seen([(0, 0, 0), (0, 0, 10), (0, 0, 20), (0, 0, 100)]), bins=10)
    assert [(each.low, each.count) for each in found.bins] == [
        (0.0, 2),
        (pytest.approx(0.1), 1),
        (pytest.approx(0.9), 1),
    ]


def share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


@given(SEEN, st.integers(0, 2))
def test_the_curves_count_what_is_accepted(rows, of):
    columns = seen(rows)
    every, own = curves(columns, of=["owl", columns.classes[of]])
    assert len(every.thresholds) == 101
    (one,) = (own[name] for name in {columns.classes[of]})
    for place, threshold in enumerate(range(101)):
        accepted = [row for row in rows if row[2] >= threshold]
        right = [row for row in accepted if row[0] == row[1]]
        mine = [row for row in rows if row[0] == of]
        taken = [row for row in accepted if row[0] == of]
        hits = [row for row in right if row[0] == of]
        claimed = [row for row in accepted if row[1] == of]
        expected = {
            "coverage": (share(len(accepted), len(rows)), share(len(taken), len(mine))),
            "accuracy": (
                share(len(right), len(accepted)),
                share(len(hits), len(taken)),
            ),
            "precision": (
                share(len(right), len(accepted)),
                share(len(hits), len(claimed)),
            ),
            "recall": (share(len(right), len(rows)), share(len(hits), len(mine))),
        }
        for name, (in_all, of_class) in expected.items():
            assert getattr(every, name)[place] == pytest.approx(in_all, nan_ok=True)
            assert getattr(one, name)[place] == pytest.approx(of_class, nan_ok=True)


def test_curves_at_thresholds_of_ones_own():
    columns = seen([(0, 0, 90), (0, 1, 80), (1, 1, 70)])
    every, own = curves(columns, thresholds=[0.75, 0.9])
    assert every.coverage.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert every.accuracy.tolist() == [0.5, 1.0]
    assert own == {}


def test_the_band_has_the_samples_about_the_threshold():
    columns = seen([(0, 0, 70), (0, 1, 64), (0, 1, 75), (0, 0, 65), (0, 0, 72)])
    found = band(columns, 0.7, width=0.05)
    assert (found.count, found.errors) == (4, 1)
    assert found.ids.tolist()[:2] == [100, 104]
    assert set(found.ids.tolist()[2:]) == {102, 103}
    assert band(columns, 0.7, width=0.05, most=1).ids.tolist() == [100]
    assert band(columns, 0.1, width=0).count == 0


@given(SEEN, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_no_threshold_is_cheaper(rows, look, error, special):
    columns = seen(rows)
    found = cheapest_threshold(
        columns,
        look=look,
        error=error,
        of_class={"dog": 2},
        of_confusion={("cat", "owl"): special},
    )

    def cost(true, predicted):
        if true == predicted:
            return 0
        return {(0, 2): special}.get((true, predicted), 2 if true == 1 else error)

    def spent(threshold):
        return sum(
            cost(*row[:2]) if sure >= threshold else look
            for row, sure in zip(rows, columns.confidence.tolist(), strict=True)
        )

    at = 2.0 if found.threshold is None else found.threshold
    assert found.cost == spent(at)
    assert found.cost == min(map(spent, [0, *columns.confidence.tolist(), 2]))
    assert found.accepting_all == spent(0)
    assert found.looking_at_all == look * len(rows)
    assert found.looks == (columns.confidence < at).sum()
    assert found.errors == (~columns.right[columns.confidence >= at]).sum()


def test_the_cheapest_threshold_may_be_to_accept_all_or_none():
    columns = seen([(0, 1, 90), (0, 0, 50)])
    assert cheapest_threshold(columns, look=1, error=0.5).threshold == 0.0
    assert cheapest_threshold(columns, look=1, error=100).threshold is None
    none = Confidences((), *(np.zeros(0, int),) * 3, np.zeros(0, np.float32))
    assert cheapest_threshold(none, look=1, error=1).cost == 0


NONE = Confidences(("cat",), *(np.zeros(0, int),) * 3, np.zeros(0, np.float32))
SOME = seen([(0, 0, 50)])


@pytest.mark.parametrize(
    ("function", "given", "message"),
    [
        (reliability, {"seen": NONE}, "no sample"),
        (reliability, {"seen": SOME, "bins": 0}, "bins must be"),
        (reliability, {"seen": SOME, "binning": "size"}, "by width or mass"),
        (curves, {"seen": SOME, "of": ["bee"]}, "no such class: bee"),
        (curves, {"seen": SOME, "thresholds": [0.5, 0.5]}, "must rise"),
        (band, {"seen": SOME, "threshold": 1.5, "width": 0}, "from 0 to 1"),
        (band, {"seen": SOME, "threshold": 0.5, "width": -1}, "0 or more"),
        (cheapest_threshold, {"seen": SOME, "look": -1, "error": 1}, "a cost"),
        (cheapest_threshold, {"seen": SOME, "look": 1, "error": math.nan}, "a cost"),
        (
            cheapest_threshold,
            {"seen": SOME, "look": 1, "error": 1, "of_class": {"bee": 1}},
            "no such class: bee",
        ),
        (
            cheapest_threshold,
            {"seen": SOME, "look": 1, "error": 1, "of_confusion": {("cat", "x"): 1}},
            "no such class: x",
        ),
    ],
    ids=[f"case-{n}" for n in range(11)],
)
def test_it_refuses_what_has_no_meaning(function, given, message):
    with pytest.raises(ValueError, match=message):
        function(**given)
