"""Fix sets as JSON lines, CSV and Parquet: one row per finding, every column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import IO, Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mining.exports.rows import in_order
from mining.fixset import COLUMNS, FixRow, json_line

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
_GROUP: Final = 2_000  # rows of a Parquet row group, and in memory
_TYPES: Final = {
    "causes": pa.list_(pa.string()),
    "p_true": pa.float64(),
    "confidence": pa.float64(),
}
_SCHEMA: Final = pa.schema([(name, _TYPES.get(name, pa.string())) for name in COLUMNS])


def write_jsonl(rows: Iterable[FixRow], file: BinaryIO) -> int:
    """Write one JSON object per line with exact values; its SHA-256 is the set's digest."""
    count = 0
    for row in in_order(rows):
        file.write(f"{json_line(row)}\n".encode())
        count += 1
    return count


def write_csv(rows: Iterable[FixRow], file: BinaryIO) -> int:
    """Write a CSV for people.

    A text cell that a spreadsheet would take for a formula (it starts with = + - @, a tab
    or a carriage return) gets a leading apostrophe. Programs should read the JSON lines.
    """
    count = 0
    with table(file, COLUMNS) as add:
        for row in in_order(rows):
            add(cells(row))
            count += 1
    return count


def write_parquet(rows: Iterable[FixRow], file: BinaryIO) -> int:
    """Write a Parquet file with the types of `FixRow`; causes are a list of strings."""
    count = 0
    ordered = in_order(rows)
    with pq.ParquetWriter(file, _SCHEMA) as writer:
        while group := [row.as_dict() for row in islice(ordered, _GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
            count += len(group)
    return count


def cells(row: FixRow) -> list[object]:
    """Return the values of a row for a table without lists."""
    return list((row.as_dict() | {"causes": ";".join(sorted(row.causes))}).values())


class _Adder:
    """Appends rows to a CSV, formulas disarmed."""

    def __init__(self, text: IO[str]) -> None:
        # With "\n" alone Python 3.11 leaves a carriage return in a cell unquoted.
        self._writer: Any = csv.writer(text, lineterminator="\r\n")

    def __call__(self, row: Iterable[object]) -> None:
        self._writer.writerow([_guard(cell) for cell in row])


@contextmanager
def table(file: IO[bytes], header: Iterable[str]) -> Iterator[_Adder]:
    """Give what appends rows to a CSV in UTF-8; the file stays open."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        add = _Adder(text)
        add(header)
        yield add
    finally:
        text.detach()  # flushes


def _guard(cell: object) -> object:
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return f"'{cell}"
    return cell
