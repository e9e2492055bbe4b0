from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest

from mining.exports import write_csv, write_jsonl, write_moves, write_parquet
from mining.fixset import COLUMNS
from tests.mining.exports.rows import ROWS, row, written


def read_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_a_csv_holds_every_column():
    first, *_ = read_csv(written(write_csv, ROWS))
    assert tuple(first) == COLUMNS
    assert first["sample_key"] == "a/1.png"
    assert first["causes"] == "background;blur"
    assert first["p_true"] == "0.125"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_formula_is_disarmed_in_the_csv_only(start):
    rows = [row(note=f"{start}cmd|' /C calc'!A0", p_true=-0.5)]
    (found,) = read_csv(written(write_csv, rows))
    assert found["note"] == f"'{start}cmd|' /C calc'!A0"
    assert found["p_true"] == "-0.5"
    assert json.loads(written(write_jsonl, rows))["note"].startswith(start)


def test_line_breaks_and_quotes_survive_the_csv():
    (found,) = read_csv(written(write_csv, [row(note='a "b",\nc')]))
    assert found["note"] == 'a "b",\nc'


def test_parquet_says_what_the_json_lines_say():
    rows = pq.read_table(io.BytesIO(written(write_parquet, ROWS))).to_pylist()
    assert rows == [
        json.loads(line) for line in written(write_jsonl, ROWS).splitlines()
    ]
    assert [row["causes"] for row in rows] == [["background", "blur"]] * 3


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_a_set_without_rows_is_a_file_without_rows(write):
    assert len(written(write, []).splitlines()) <= 1 or write is write_parquet


def test_rows_out_of_order_are_refused():
    with pytest.raises(ValueError, match="in order"):
        written(write_jsonl, ROWS[::-1])


def test_moves_name_the_old_and_the_new_label_of_each_image_once():
    rows = [row(), row(predicted="owl"), ROWS[1], row("=c/4.png", label="owl")]
    assert read_csv(written(write_moves, [rows[3], *rows[:3]])) == [
        {"path": "'=c/4.png", "old_label": "cat", "new_label": "owl"},
        {"path": "a/1.png", "old_label": "cat", "new_label": "dog"},
    ]
