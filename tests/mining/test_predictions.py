"""Predictions made elsewhere: every format, every layout, and everything wrong with them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.predictions import (
    BadPredictions,
    Block,
    Report,
    detect_format,
    find_faults,
    read_class_order,
    read_predictions,
    score_block,
)
from mining.predictions.blocks import MAX_LOSS, Fault

CLASSES = ("cat", "dog", "fox")


KEYS = ["a.png", "b.png"]


PROBS = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]


def read(
    path: Path, *, classes: Sequence[str] = CLASSES, given: Sequence[str] = ()
) -> list[Block]:
    kind = detect_format(path.name, io.BytesIO(path.read_bytes()))
    blocks = read_predictions(path, kind, classes=classes, given=given, max_bytes=2**20)
    return list(blocks)


def only(path: Path, **options: Sequence[str]) -> Block:
    (block,) = read(path, **options)
    return block


def faults_of(path: Path, **options: Sequence[str]) -> dict[int, tuple[str, str]]:
    return {
        block.first_row + row: tuple(fault)
        for block in read(path, **options)
        for row, fault in find_faults(block).items()
    }


def kinds_of(path: Path) -> dict[int, str]:
    return {row: kind for row, (kind, _) in faults_of(path).items()}


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def write_jsonl(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return write_csv(path, *lines)


def write_parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def wide_csv(path: Path) -> Path:
    return write_csv(path, "fox,key,cat,dog", "0.1,a.png,0.7,0.2", "0.6,b.png,0.1,0.3")


def wide_parquet(path: Path) -> Path:
    fox, cat, dog = [0.1, 0.6], [0.7, 0.1], [0.2, 0.3]
    return write_parquet(path, fox=fox, key=KEYS, cat=cat, dog=dog)


def list_parquet(path: Path) -> Path:
    return write_parquet(path, key=KEYS, pred_probs=PROBS)


def fixed_parquet(path: Path) -> Path:
    flat = pa.array(np.array(PROBS, np.float32).ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, 3)
    keys = pa.array(KEYS).dictionary_encode()
    return write_parquet(path, key=keys, pred_probs=lists)


def list_jsonl(path: Path) -> Path:
    rows = zip(KEYS, PROBS, strict=True)
    return write_jsonl(path, *({"key": k, "pred_probs": p} for k, p in rows))


def named_jsonl(path: Path) -> Path:
    rows = [
        {"key": key, "probs": dict(zip(CLASSES, probs, strict=True))}
        for key, probs in zip(KEYS, PROBS, strict=True)
    ]
    return write_jsonl(path, *rows)


def npz(path: Path) -> Path:
    np.savez(path, keys=np.array(KEYS), pred_probs=np.array(PROBS, np.float32))
    return path


def packed_npz(path: Path) -> Path:
    order = [2, 0, 1]
    np.savez_compressed(
        path,
        keys=np.array([key.encode() for key in KEYS]),
        pred_probs=np.ascontiguousarray(np.array(PROBS)[:, order]),
        classes=np.array([CLASSES[n] for n in order]),
    )
    return path


@pytest.mark.parametrize(
    ("name", "write", "order"),
    [
        ("p.csv", wide_csv, "file"),
        ("p.parquet", wide_parquet, "file"),
        ("p.parquet", list_parquet, "data set"),
        ("p.parquet", fixed_parquet, "data set"),
        ("p.jsonl", list_jsonl, "data set"),
        ("p.jsonl", named_jsonl, "file"),
        ("p.npz", npz, "data set"),
        ("p.npz", packed_npz, "file"),
    ],
)
def test_every_layout_gives_the_same_rows(
    tmp_path: Path, name: str, write: Callable[[Path], Path], order: str
) -> None:
    block = only(write(tmp_path / name))
    assert block.first_row == 1
    assert list(block.keys) == KEYS
    assert block.probs == pytest.approx(np.array(PROBS), abs=1e-7)
    assert block.tops is None
    assert block.order == order
    assert block.share == 1
    assert find_faults(block) == {}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_top_k_keeps_its_classes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    if suffix == "csv":
        write_csv(path, "key,top1,p1,top2,p2", "a,fox,0.6,cat,0.3", "b,dog,0.9,,")
    else:
        names, probs = [["fox", "cat"], ["dog"]], [[0.6, 0.3], [0.9]]
        rows = zip(["a", "b"], names, probs, strict=True)
        if suffix == "jsonl":
            write_jsonl(
                path,
                *({"key": k, "top_classes": n, "top_probs": p} for k, n, p in rows),
            )
        else:
            write_parquet(path, key=["a", "b"], top_classes=names, top_probs=probs)
    block = only(path)
    assert block.tops is not None
    assert block.tops.tolist() == [[2, 0], [1, -1]]
    assert block.probs.tolist() == [[0.6, 0.3], [0.9, -1]]
    assert find_faults(block) == {}


def test_a_given_order_counts_where_the_file_has_no_names(tmp_path: Path) -> None:
    block = only(npz(tmp_path / "p.npz"), given=("fox", "cat", "dog"))
    assert block.order == "given"
    assert block.probs[0] == pytest.approx([0.2, 0.1, 0.7])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("cat", "dog"), "it lacks 'fox'"),
        (("cat", "dog", "fox", "owl"), "'owl' is no class of the data set"),
        (("cat", "dog", "fox", "fox"), "it names 'fox' twice"),
    ],
)
def test_it_refuses_an_order_that_is_not_the_data_sets(
    tmp_path: Path, given: Sequence[str], problem: str
) -> None:
    with pytest.raises(BadPredictions, match=problem):
        read(wide_csv(tmp_path / "p.csv"), given=given)


def test_it_says_which_class_a_file_lacks(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "p.csv", "key,cat,dog,fxo", "a,1,0,0")
    with pytest.raises(BadPredictions) as caught:
        read(path)
    assert str(caught.value) == (
        "p.csv: its classes are not the data set's: it lacks 'fox'; 'fxo' is no class of "
        "the data set. The data set has 3: cat, dog, fox. Nothing was imported from it."
    )


def test_a_class_order_is_a_list_of_names() -> None:
    assert read_class_order("c.json", io.BytesIO(b'["cat", "dog"]')) == ["cat", "dog"]
    for data in (b"{}", b"[]", b"[1]", b"nope", b"\xff", b"[" * 100_000):
        with pytest.raises(BadPredictions):
            read_class_order("c.json", io.BytesIO(data))


def test_rows_are_numbered_through_all_blocks(tmp_path: Path) -> None:
    n = 10_001
    path = tmp_path / "p.npz"
    probs = np.tile([1.0, 0, 0], (n, 1))
    probs[-1] = 0
    np.savez(path, keys=np.array([f"k{i}" for i in range(n)]), pred_probs=probs)
    first, second = read(path)
    assert (len(first), first.first_row) == (10_000, 1)
    assert (len(second), second.first_row) == (1, 10_001)
    assert 0.99 < first.share < second.share == 1
    assert kinds_of(path) == {10_001: "wrong sum"}


def block_of(probs: object, tops: object = None) -> Block:
    array = np.array(probs, float)
    indices = None if tops is None else np.array(tops, np.int32)
    return Block(1, [f"k{n}" for n in range(len(array))], array, indices, 1, "file")


def test_scores_of_full_rows_have_known_values() -> None:
    block = block_of([[0.25, 0.5, 0.25], [0.4, 0.4, 0.2], [0, 0, 1]])
    scores = score_block(block, np.array([0, 1, 1]), top_k=2)
    assert scores.predicted.tolist() == [1, 0, 2]  # of equals the first
    assert scores.confidence.tolist() == [0.5, 0.4, 1]
    assert scores.p_true.tolist() == [0.25, 0.4, 0]
    assert scores.margin.tolist() == [0.25, 0, 1]
    assert scores.loss == pytest.approx([math.log(4), -math.log(0.4), MAX_LOSS])
    assert scores.top_classes.tolist() == [[1, 0], [0, 1], [2, 0]]
    assert scores.top_probs.tolist() == [[0.5, 0.25], [0.4, 0.4], [1, 0]]
    assert not scores.bounded.any()


def test_a_true_label_outside_the_top_k_gets_the_highest_p_the_row_allows() -> None:
    block = block_of(
        [[0.3, 0.5], [0.6, 0.3], [0.9, -1], [0.4, -1], [0.5, 0.2]],
        [[0, 1], [0, 1], [0, -1], [0, -1], [1, 2]],
    )
    scores = score_block(block, np.array([2, 2, 1, 1, 2]), top_k=5)
    # The rest, the rest, the rest, the last one listed; the last row lists its own.
    assert scores.p_true == pytest.approx([0.2, 0.1, 0.1, 0.4, 0.2])
    assert scores.bounded.tolist() == [True, True, True, True, False]
    assert scores.loss == pytest.approx(-np.log(scores.p_true))
    assert scores.predicted.tolist() == [1, 0, 0, 0, 1]
    assert scores.margin == pytest.approx([0.2, 0.3, 0.8, 0, 0.3])
    assert scores.top_classes.tolist() == [[1, 0], [0, 1], [0, -1], [0, -1], [1, 2]]


def test_a_loss_is_always_a_number_that_json_has() -> None:
    scores = score_block(block_of([[1.0, 0, 0]]), np.array([2]), top_k=3)
    assert scores.loss.tolist() == [pytest.approx(87.3365, abs=1e-3)]


def test_true_labels_must_be_as_many_as_rows() -> None:
    with pytest.raises(ValueError, match="2 true labels for 1 rows"):
        score_block(block_of([[1.0, 0, 0]]), np.array([0, 1]), top_k=2)


def test_a_report_counts_all_and_lists_the_first_hundred() -> None:
    report = Report(rows=200)
    for row in range(150):
        report.add(Fault("wrong sum", "x" * 1000), row=row, key="k\0")
    report.add_many("no prediction", 7)
    report.add_many("duplicate key", 0)
    data = report.to_dict()
    assert data["counts"] == {"wrong sum": 150, "no prediction": 7}
    assert data["bad_rows"] == 150
    assert len(data["listed"]["wrong sum"]) == 100
    assert data["listed"]["wrong sum"][0]["key"] == "k\\x00"
    assert len(data["listed"]["wrong sum"][0]["reason"]) == 301
    assert list(report.sentences()) == [
        "150 rows: wrong sum",
        "7 samples: no prediction",
    ]
    assert not report.is_clean
    assert Report(rows=1).is_clean
