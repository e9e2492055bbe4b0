"""Files of predictions with bad rows, or that no reader should trust."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mining.predictions import (
    BadPredictions,
    detect_format,
)
from mining.predictions import text as text_module
from mining.text import MAX_KEY_BYTES
from tests.mining.test_predictions import (
    KEYS,
    PROBS,
    faults_of,
    kinds_of,
    list_parquet,
    only,
    packed_npz,
    read,
    write_csv,
    write_jsonl,
    write_parquet,
)

BAD_NUMBERS = [
    ("nan,0.5,0.5", "not a number"),
    ("inf,0.5,0.5", "not a number"),
    ("-0.1,0.6,0.5", "negative"),
    ("0.5,0.5,0.5", "wrong sum"),
    ("0.5,0.4,0.098", "wrong sum"),
    ("0.5,half,0.5", "not a number"),
    ("0.5,,0.5", "not a number"),
    ("0.5,0.5", "unreadable row"),
    ("0.5,0.2,0.2,0.1", "unreadable row"),
]


def test_each_bad_row_of_a_csv_is_named(tmp_path: Path) -> None:
    lines = [f"k{n},{numbers}" for n, (numbers, _) in enumerate(BAD_NUMBERS)]
    path = write_csv(tmp_path / "p.csv", "key,cat,dog,fox", *lines, "z,0.5,0.5,0")
    assert kinds_of(path) == {n + 1: kind for n, (_, kind) in enumerate(BAD_NUMBERS)}


def test_a_sum_may_be_off_by_rounding(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "p.csv", "key,cat,dog,fox", "a,0.5,0.4,0.0991")
    assert kinds_of(path) == {}


def test_each_bad_row_of_json_lines_is_named(tmp_path: Path) -> None:
    rows: list[tuple[object, str]] = [
        ('{"key": "a", "pred_probs": [NaN, 0.5, 0.5]}', "not a number"),
        ('{"key": "a", "pred_probs": [1e999, 0, 0]}', "not a number"),
        ({"key": "a", "pred_probs": [0.5, 0.5]}, "wrong length"),
        ({"key": "a", "pred_probs": [1, 0, "0"]}, "wrong sum"),
        ({"key": "a", "pred_probs": [True, 0, 0]}, "not a number"),
        ({"key": "a", "pred_probs": [[1], 0, 0]}, "not a number"),
        ({"key": "a", "pred_probs": [10**400, 0, 0]}, "not a number"),
        ({"key": "a", "pred_probs": 1}, "unreadable row"),
        ({"key": "a"}, "unreadable row"),
        ({"key": 1, "pred_probs": [1, 0, 0]}, "unreadable row"),
        ({"key": "", "pred_probs": [1, 0, 0]}, "unreadable row"),
        ({"key": "a\0b", "pred_probs": [1, 0, 0]}, "unreadable row"),
        ('{"key": "\\ud800", "pred_probs": [1, 0, 0]}', "unreadable row"),
        ({"key": "a" * (MAX_KEY_BYTES + 1), "pred_probs": [1, 0, 0]}, "unreadable row"),
        ("[1, 2]", "unreadable row"),
        ('{"key": "a", "pred', "unreadable row"),
        ("[" * 100_000, "unreadable row"),
    ]
    good = {"key": "z", "pred_probs": [0, 0, 1]}
    path = write_jsonl(tmp_path / "p.jsonl", good, *(row for row, _ in rows))
    expected = {n + 2: kind for n, (_, kind) in enumerate(rows)}
    del expected[5]  # numbers as text are taken, as in a CSV
    assert kinds_of(path) == expected


def test_a_named_row_needs_every_class_and_no_other(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "p.jsonl",
        {"key": "a", "probs": {"cat": 1, "dog": 0, "fox": 0}},
        {"key": "b", "probs": {"cat": 1, "dog": 0}},
        {"key": "c", "probs": {"cat": 1, "dog": 0, "fox": 0, "owl": 0}},
        {"key": "d", "probs": [1, 0, 0]},
    )
    assert faults_of(path) == {
        2: ("missing class", "there is no 'fox'"),
        3: ("unknown class", "'owl' is none of the data set's"),
        4: ("unreadable row", "probs is no object"),
    }
    assert list(only(path).keys) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_each_bad_top_k_is_named(tmp_path: Path, suffix: str) -> None:
    rows = [
        (["cat", "dog"], [0.5, 0.2], None),
        (["cat", "dog"], [0.5], "wrong length"),
        ([], [], "wrong length"),
        (["cat", "owl"], [0.5, 0.2], "unknown class"),
        (["cat", "cat"], [0.5, 0.2], "unknown class"),
        (["cat", "dog"], [0.8, 0.3], "wrong sum"),
        (["cat", "dog"], [0.8, -0.1], "negative"),
        (["cat", "dog"], [0.8, math.nan], "not a number"),
        (["cat", "dog", "fox", "cat"], [0.1, 0.1, 0.1, 0.1], "wrong length"),
    ]
    path = tmp_path / f"p.{suffix}"
    names, probs = [row[0] for row in rows], [row[1] for row in rows]
    keys = [f"k{n}" for n in range(len(rows))]
    if suffix == "parquet":
        write_parquet(path, key=keys, top_classes=names, top_probs=probs)
    else:
        write_jsonl(
            path,
            *(
                {"key": key, "top_classes": classes, "top_probs": values}
                for key, classes, values in zip(keys, names, probs, strict=True)
            ),
        )
    assert kinds_of(path) == {n + 1: row[2] for n, row in enumerate(rows) if row[2]}


def test_nulls_in_parquet_are_bad_rows(tmp_path: Path) -> None:
    lists = [[0.5, 0.5, 0], None, [0.5, None, 0.5], [1.0, 0, 0]]
    path = write_parquet(
        tmp_path / "p.parquet", key=["a", "b", "c", None], pred_probs=lists
    )
    assert kinds_of(path) == {2: "wrong length", 3: "not a number", 4: "unreadable row"}


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b"key,cat,dog,fox\n\xff.png,1,0,0\nb.png,1,0,0\n")
    assert kinds_of(path) == {1: "unreadable row"}
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"key": "\xff", "pred_probs": [1, 0, 0]}\n')
    assert kinds_of(path) == {1: "unreadable row"}


def test_a_broken_quote_is_named_and_the_rows_before_it_are_read(
    tmp_path: Path,
) -> None:
    path = write_csv(
        tmp_path / "p.csv", "key,cat,dog,fox", "a,1,0,0", '"b"c,1,0,0', "d,1,0,0"
    )
    assert [list(block.keys) for block in read(path)] == [["a", ""]]
    assert kinds_of(path) == {2: "unreadable row"}


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xef\xbb\xbfkey,cat,dog,fox\na,1,0,0\n")
    assert only(path).keys == ["a"]


def test_it_refuses_an_endless_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_module, "MAX_LINE", 50)
    path = write_csv(tmp_path / "p.jsonl", '{"key": "' + "a" * 100 + '"}')
    with pytest.raises(BadPredictions, match="line 1 is longer than 50 bytes"):
        read(path)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (("cat,dog,fox", "1,0,0"), "the column key is missing; there are: 'cat'"),
        (("key,cat,cat,fox", "a,1,0,0"), "the column 'cat' is there twice"),
        (("key,top1,p1,top3,p3", "a,cat,1,,"), "must be top1, p1, top2, p2"),
        (('key,"cat', "a,1,0,0"), "unexpected end of data"),
    ],
)
def test_it_refuses_a_csv_header(
    tmp_path: Path, lines: Sequence[str], problem: str
) -> None:
    with pytest.raises(BadPredictions, match=problem):
        read(write_csv(tmp_path / "p.csv", *lines))


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"id": KEYS, "pred_probs": PROBS}, "the column key is missing"),
        ({"key": [1, 2], "pred_probs": PROBS}, "the column key holds int64, not text"),
        ({"key": KEYS, "pred_probs": [1.0, 2.0]}, "holds double, not lists"),
        ({"key": KEYS, "pred_probs": [["a"], ["b"]]}, "not a readable Parquet file"),
        ({"key": KEYS, "cat": [1.0, 1.0]}, "it lacks 'dog', 'fox'"),
        (
            {"key": ["a"], "pred_probs": [[0.0] * 100]},
            "the lists of pred_probs hold 100 values for 1 rows",
        ),
    ],
)
def test_it_refuses_parquet_columns(
    tmp_path: Path, columns: dict[str, object], problem: str
) -> None:
    with pytest.raises(BadPredictions, match=problem):
        read(write_parquet(tmp_path / "p.parquet", **columns))


def test_it_refuses_a_damaged_parquet_file(tmp_path: Path) -> None:
    path = list_parquet(tmp_path / "p.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadPredictions, match="not a readable Parquet file"):
        read(path)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"pred_probs": np.eye(3)}, "the array keys is missing"),
        ({"keys": np.array(KEYS), "pred_probs": np.eye(3)[:2] > 0}, "holds bool"),
        ({"keys": np.arange(2), "pred_probs": np.eye(3)[:2]}, "one row of text"),
        ({"keys": np.array(KEYS), "pred_probs": np.eye(3)}, "shape .3, 3.; .2, 3. was"),
        ({"keys": np.array(KEYS), "pred_probs": np.eye(2)}, "shape .2, 2.; .2, 3. was"),
        (
            {"keys": np.array(KEYS), "pred_probs": np.asfortranarray(np.eye(3)[:2])},
            "stored column by column",
        ),
        (
            {"keys": np.array(["", ""]), "pred_probs": np.eye(3)[:2]},
            "",
        ),
        (
            {"keys": np.array(["a" * 3000, "b"]), "pred_probs": np.eye(3)[:2]},
            "takes 12,000 bytes for each key",
        ),
        (
            {"keys": np.array([b"\xff", b"b"]), "pred_probs": np.eye(3)[:2]},
            "a text is not valid",
        ),
        (
            {"keys": np.array(KEYS), "pred_probs": np.eye(3)[:2], "classes": np.eye(3)},
            "the array classes is no list of names",
        ),
        (
            {
                "keys": np.array(KEYS),
                "pred_probs": np.eye(3)[:2],
                "classes": np.array(["cat", "dog", "owl"]),
            },
            "it lacks 'fox'; 'owl' is no class",
        ),
    ],
)
def test_it_refuses_npz_arrays(
    tmp_path: Path, arrays: dict[str, np.ndarray], problem: str
) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, **arrays)
    if problem:
        with pytest.raises(BadPredictions, match=problem):
            read(path)
    else:
        assert kinds_of(path) == {1: "unreadable row", 2: "unreadable row"}


def test_it_never_loads_objects(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, keys=np.array(KEYS, object), pred_probs=np.array(PROBS))
    with pytest.raises(BadPredictions, match="Python objects, which are never loaded"):
        read(path)


def npy(shape: tuple[int, ...], kind: str = "<f8", data: bytes = b"") -> bytes:
    """Return an array's file that claims a shape, with other data."""
    file = io.BytesIO()
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


@pytest.mark.parametrize(
    ("probs", "problem"),
    [
        (npy((10**12, 3)), "pred_probs is not as long as it says"),
        (npy((-1, 3)), "pred_probs is not as long as it says"),
        (
            npy((1, 3), data=bytes(2**21)),
            "unpacks to .* bytes, more than the 1,048,576",
        ),
        (b"\x93NUMPY\x09\x00", "the array pred_probs has no readable header"),
        (b"nothing", "the array pred_probs has no readable header"),
    ],
)
def test_it_refuses_an_archive_that_lies(
    tmp_path: Path, probs: bytes, problem: str
) -> None:
    path = tmp_path / "p.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("keys.npy", npy((1,), "<U1", "a".encode("utf-32-le")))
        archive.writestr("pred_probs.npy", probs)
    with pytest.raises(BadPredictions, match=problem):
        read(path)


def test_it_refuses_an_array_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own
        for _ in range(2):
            archive.writestr("keys.npy", npy((1,), "<U1", "a".encode("utf-32-le")))
    with pytest.raises(BadPredictions, match="keys is there twice"):
        read(path)


def test_it_refuses_a_damaged_archive(tmp_path: Path) -> None:
    path = packed_npz(tmp_path / "p.npz")
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(bytes(data))
    with pytest.raises(BadPredictions, match=r"p\.npz: "):
        read(path)


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("p.pkl", b"x", "must end in"),
        ("noname", b"x", "must end in"),
        ("p.parquet", b"PK\x03\x04", "its content is not parquet"),
        ("p.npz", b"PAR1", "its content is not npz"),
        ("p.csv", b"PK\x03\x04\0", "its content is not csv"),
        ("p.csv", "key".encode("utf-16"), "its content is not csv, or not UTF-8"),
        ("p.csv", b"", "its content is not csv"),
    ],
)
def test_it_refuses_content_of_another_kind(
    name: str, data: bytes, problem: str
) -> None:
    with pytest.raises(BadPredictions, match=problem):
        detect_format(name, io.BytesIO(data))
