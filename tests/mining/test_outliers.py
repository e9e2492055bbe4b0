from __future__ import annotations

import numpy as np
import pytest

import mining.outliers as outliers_module
from mining.artefact import write_outcomes
from mining.exceptions import ArtefactError
from mining.outliers import outliers, read_outliers
from mining.types import Look, Outcome

# 21 values 0 to 20: median 10, median of the absolute deviations 5.
LADDER = np.arange(21.0)


@pytest.mark.parametrize(("value", "found"), [(53.0, False), (56.0, True)])
def test_the_score_is_the_published_one(value, found):
    # With the value: median 10.5, MAD 5.5 -> 0.6745 * 42.5 / 5.5 = 5.2 and 5.58; beyond 5.4.
    looks = np.r_[LADDER, value][:, None]
    assert outliers(np.zeros(22, int), looks, beyond=5.4)[-1] == found


def test_each_class_has_its_own_middle():
    true = np.repeat([0, 1], 30)
    looks = np.r_[np.linspace(0, 0.1, 30), np.linspace(5, 5.1, 30)][:, None]
    assert not outliers(true, looks).any()
    true[0], looks[0] = 1, 0.0
    assert np.flatnonzero(outliers(true, looks)).tolist() == [0]


@pytest.mark.parametrize(
    "looks",
    [
        np.r_[np.linspace(0, 1, 18), 99.0],  # too few
        np.r_[np.zeros(40), 99.0],  # hardly varies
        np.full(40, np.nan),
    ],
)
def test_where_nobody_knows_what_is_usual_nothing_is_said(looks):
    assert not outliers(np.zeros(len(looks), int), looks[:, None]).any()


def test_an_unknown_look_is_no_outlier_and_hides_none():
    looks = np.r_[LADDER, np.nan, 1000.0]
    looks = np.column_stack([looks, np.zeros(23)])
    assert np.flatnonzero(outliers(np.zeros(23, int), looks)).tolist() == [22]


def outcome(pk, brightness, sharpness=10.0, *, is_readable=True):
    look = Look(1, brightness, 0.1, sharpness, 8, 8, "PNG", 100)
    return Outcome(
        id=pk, key=f"{pk}.png", digest="ab", true=0,
        predicted=0 if is_readable else None, confidence=0.9, p_true=0.9, margin=0.8,
        loss=0.1, top_classes=(0,), top_probs=(0.9,),
        error="" if is_readable else "broken", look=look if is_readable else None,
    )  # fmt: skip


def test_the_outliers_of_a_scan_are_read_from_its_artefact(tmp_path):
    path = tmp_path / "outcomes.parquet"
    rows = [outcome(pk, 0.4 + pk / 1000) for pk in range(1, 41)]
    rows += [outcome(77, 0.99), outcome(78, 0.41, 1e6), outcome(79, 0, is_readable=False)]  # fmt: skip
    write_outcomes(path, rows, classes=["cat"])
    assert read_outliers(path).tolist() == [77]
    varied = [outcome(pk, 0.4 + pk / 1000, 10.0 + pk) for pk in range(1, 41)]
    write_outcomes(path, [*varied, *rows[40:]], classes=["cat"])
    assert read_outliers(path).tolist() == [77, 78]
    write_outcomes(path, [], classes=["cat"])
    assert read_outliers(path).tolist() == []


def test_of_many_samples_the_middles_are_those_of_some(tmp_path, monkeypatch):
    path = tmp_path / "outcomes.parquet"
    rows = [outcome(pk, 0.4 + pk % 40 / 1000) for pk in range(1, 20_501)]
    write_outcomes(path, [*rows, outcome(99_999, 0.99)], classes=["cat"])
    monkeypatch.setattr("mining.outliers._MOST", 5000)
    labels, looks = outliers_module._some(path)
    assert len(labels) == len(looks) < 5000
    assert read_outliers(path).tolist() == [99_999]


def test_a_damaged_artefact_is_said(tmp_path):
    path = tmp_path / "outcomes.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(ArtefactError, match="cannot be read"):
        read_outliers(path)
