"""Read the rows of CSV, JSON Lines and Parquet files one by one, with their line numbers."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from mining.exceptions import BadManifest
from mining.sources.files import open_binary
from mining.text import is_storable, shown

_BATCH = 4096
_SHOWN_COLUMNS = 20
_NOT_UTF8 = "not UTF-8 text; save the file as UTF-8"
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with one line."""

    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def read_rows(
    url: str, name: str, *, required: Sequence[str]
) -> Iterator[tuple[int, Row | RowProblem]]:
    """Yield line (or Parquet row) numbers from 1 with the row, or with what is wrong with it.

    Args:
        url: What to open; the suffix of `name` decides the format.
        name: What messages call the file.
        required: Columns that must be there.

    Raises:
        BadManifest: The file cannot be read at all or lacks a column.
    """
    readers = {"csv": _csv_rows, "jsonl": _jsonl_rows, "parquet": _parquet_rows}
    reader = readers.get(name.lower().rpartition(".")[2])
    if reader is None:
        raise BadManifest(name, ["the name must end in .csv, .jsonl or .parquet"])
    try:
        with closing(open_binary(url)) as file:
            yield from reader(file, name, required)
    except OSError as error:
        raise BadManifest(
            name, [f"it cannot be read: {error.strerror or error}"]
        ) from error


def _check_columns(name: str, columns: Sequence[str], required: Sequence[str]) -> None:
    there = ", ".join(columns[:_SHOWN_COLUMNS])[:500] or "none"
    problems = [
        f"the column {column!r} is missing; there are: {there}"
        for column in required
        if column not in columns
    ]
    twice = sorted(column for column, n in Counter(columns).items() if n > 1)
    problems += [f"the column {shown(column)} is there twice" for column in twice]
    if problems:
        raise BadManifest(name, problems)


def _without_mark(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file without the byte-order mark that some editors write."""
    for line in file:
        yield line.removeprefix(b"\xef\xbb\xbf")
        break
    yield from file


def _csv_rows(
    file: BinaryIO, name: str, required: Sequence[str]
) -> Iterator[tuple[int, Row | RowProblem]]:
    # Undecodable bytes become surrogates, so that the line with them can be named.
    lines = (raw.decode("utf-8", "surrogateescape") for raw in _without_mark(file))
    first = next(lines, "")
    _check_header(name, first)
    reader = csv.reader(chain([first], lines), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(name, "".join(header))  # quoted, it may have several lines
        _check_columns(name, header, required)
        for fields in reader:
            if fields:
                yield reader.line_num, _csv_row(header, fields, reader.line_num)
    except csv.Error as error:
        # What follows a broken quote cannot be told apart any more.
        yield reader.line_num, RowProblem(reader.line_num, f"not valid CSV: {error}")


def _check_header(name: str, text: str) -> None:
    """Refuse a header of UTF-16, which has NUL in every other byte, or any other."""
    if not is_storable(text):
        raise BadManifest(name, [f"line 1: the header holds a NUL or is {_NOT_UTF8}"])


def _csv_row(header: list[str], fields: list[str], line: int) -> Row | RowProblem:
    if len(fields) != len(header):
        return RowProblem(
            line, f"{len(fields)} fields, but the header has {len(header)}"
        )
    if any("\udc80" <= letter <= "\udcff" for field in fields for letter in field):
        return RowProblem(line, _NOT_UTF8)
    return dict(zip(header, fields, strict=True))


def _jsonl_rows(
    file: BinaryIO, name: str, required: Sequence[str]
) -> Iterator[tuple[int, Row | RowProblem]]:
    for line, data in enumerate(_without_mark(file), start=1):
        if data.strip():
            yield line, _json_row(data, line, required)


def _json_row(data: bytes, line: int, required: Sequence[str]) -> Row | RowProblem:
    try:
        row = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        return RowProblem(line, _NOT_UTF8)
    except (ValueError, RecursionError) as error:
        return RowProblem(line, f"not valid JSON: {error}")
    if not isinstance(row, dict):
        return RowProblem(line, "not a JSON object")
    missing = [column for column in required if column not in row]
    if missing:
        return RowProblem(line, f"{' and '.join(missing)} missing")
    return row


def _parquet_rows(
    file: BinaryIO, name: str, required: Sequence[str]
) -> Iterator[tuple[int, Row | RowProblem]]:
    try:
        table = pq.ParquetFile(file)
        _check_columns(name, table.schema_arrow.names, required)
        line = 0
        for batch in table.iter_batches(batch_size=_BATCH):
            for row in _batch_rows(batch, line):
                line += 1
                yield line, row
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise BadManifest(
            name, [f"it is not a readable Parquet file: {error}"]
        ) from error


def _batch_rows(batch: pa.RecordBatch, before: int) -> list[Row | RowProblem]:
    """Return the rows of a batch that `before` rows precede."""
    try:
        return cast("list[Row | RowProblem]", batch.to_pylist())
    except (ValueError, OverflowError):  # pyarrow does not say where
        return [
            _parquet_row(batch.slice(row, 1), before + row + 1)
            for row in range(batch.num_rows)
        ]


def _parquet_row(row: pa.RecordBatch, line: int) -> Row | RowProblem:
    """Return one row, or the first column whose value Python's types cannot hold."""
    values: dict[str, object] = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        try:
            (values[name],) = column.to_pylist()
        except (ValueError, OverflowError):
            return RowProblem(
                line,
                f"the column {shown(name)} holds a value of type {column.type} that cannot"
                " be read; store the column as text in UTF-8",
            )
    return values
