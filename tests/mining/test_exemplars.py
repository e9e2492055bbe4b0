from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from mining.artefact import write_outcomes
from mining.exemplars import Right, choose_different, surest_right
from mining.types import Look, Outcome, SampleRef


def right(n: int, label: int, confidence: float, **fields) -> Outcome:
    values = {"predicted": label, "digest": f"{n:064x}"} | fields
    return Outcome(
        id=n, key=f"{n}.png", true=label, confidence=confidence, p_true=confidence,
        margin=0.5, loss=1.0, top_classes=(label,), top_probs=(confidence,), **values,
    )  # fmt: skip


def found(path, outcomes, n_classes=3, most=2):
    write_outcomes(path, outcomes)
    return [(row.label, row.id) for row in surest_right(path, n_classes, most=most)]


def test_the_surest_right_ones_of_each_class_come_first(tmp_path):
    lost = SampleRef(id=9, key="9.png", url="", label=-1)
    rows = [
        right(1, 2, 0.5),
        right(2, 0, 0.75),
        right(3, 0, 1.0, predicted=2),
        right(4, 0, 0.875),
        right(5, 0, 0.5),
        Outcome.unreadable(lost, "gone"),
    ]
    assert found(tmp_path / "a.parquet", rows) == [(0, 4), (0, 2), (2, 1)]


def test_of_equally_sure_ones_the_lowest_ids_are_taken(tmp_path):
    rows = [right(n, 0, 1.0) for n in range(40_000)]
    assert found(tmp_path / "a.parquet", rows, n_classes=1) == [(0, 0), (0, 1)]


def test_many_rows_give_what_sorting_all_of_them_gives(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 30_000).tolist()
    sure = rng.integers(0, 200, 30_000) / 256
    rows = [right(n, labels[n], float(sure[n])) for n in range(30_000)]
    expected = sorted(
        ((label, -sure[n], n) for n, label in enumerate(labels)),
        key=lambda row: row,
    )
    best = [
        (label, n)
        for k in range(3)
        for label, _, n in [row for row in expected if row[0] == k][:5]
    ]
    assert found(tmp_path / "a.parquet", rows, most=5) == best


def test_an_artefact_without_right_predictions_gives_nothing(tmp_path):
    assert found(tmp_path / "a.parquet", [right(1, 0, 0.9, predicted=1)]) == []
    assert found(tmp_path / "b.parquet", []) == []


def test_hashes_come_along_and_older_artefacts_have_none(tmp_path):
    path = tmp_path / "a.parquet"
    look = Look(-5, 0.5, 0.25, 12.5, 80, 60, "JPEG", 4321)
    write_outcomes(path, [right(1, 0, 0.5, look=look)])
    assert [row.phash for row in surest_right(path, 1, most=1)] == [-5]
    pq.write_table(pq.read_table(path).drop_columns(["phash"]), path)
    assert [row.phash for row in surest_right(path, 1, most=1)] == [None]


def test_images_that_look_alike_are_shown_once():
    rows = [
        Right(1, "a", 0, 0.99, 0),
        Right(2, "a", 0, 0.98, None),  # the same bytes
        Right(3, "c", 0, 0.97, 0b1111),  # 4 bits away
        Right(4, "d", 0, 0.96, 0b11111),
        Right(5, "e", 0, 0.95, -1),  # all 64 bits
        Right(6, "f", 0, 0.94, -(2**63)),  # the highest bit
        Right(7, "g", 0, 0.93, None),
        Right(8, "h", 0, 0.92, None),
    ]
    assert [row.id for row in choose_different(rows, most=6)] == [1, 4, 5, 7, 8]
    assert [row.id for row in choose_different(rows, most=2)] == [1, 4]
