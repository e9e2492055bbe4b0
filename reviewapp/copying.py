"""Rows into PostgreSQL by COPY."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from django.db import connection

Values: TypeAlias = npt.NDArray[Any]
Columns: TypeAlias = Mapping[str, Values]

# The binary COPY format: signature, flags and extension; at the end a row of -1 columns.
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER: Final = struct.pack(">h", -1)
_TYPE_IDS: Final = {"i8": 20, "f8": 701}  # of bigint and float8 in pg_type


def copy_rows(
    table: str,
    columns: Sequence[str],
    types: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> int:
    """Append rows to a table by binary COPY and return how many.

    Args:
        table: The table's name, from code, never from input.
        columns: The columns the rows fill.
        types: Their PostgreSQL types, which binary COPY must be told.
        rows: One sequence of values per row.
    """
    n = 0
    with connection.cursor() as cursor:
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(statement) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
                n += 1
    return n


def copy_columns(table: str, columns: Columns) -> int:
    """Append rows to a table by binary COPY and return how many.

    The rows are laid out as one array, without a loop over them: ten times as fast
    as `copy_rows`.

    Args:
        table: The table's name, from code, never from input.
        columns: Column -> its values. Numbers (N,) fill columns of their own size: int64
            bigint, int32 integer, float64 double precision. Bytes (N,) fill text,
            padded with blanks to one width. int64 and float64 (N, K) fill arrays.
    """
    rows = len(next(iter(columns.values())))
    row = np.dtype([("columns", ">i2"), *((c, _layout(v)) for c, v in columns.items())])
    laid = np.empty(rows, row)
    laid["columns"] = len(columns)
    for name, values in columns.items():
        _fill(laid[name], values)
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(_HEADER)
        copy.write(laid.data.cast("B"))
        copy.write(_TRAILER)
    return rows


def _layout(values: Values) -> np.dtype[Any]:
    """Return a value as binary COPY takes it: its size in bytes, then itself."""
    item = np.dtype([("size", ">i4"), ("value", values.dtype.newbyteorder(">"))])
    if values.ndim == 1:
        return item
    return np.dtype([("head", ">i4", (6,)), ("items", item, values.shape[1:])])


def _fill(field: Values, values: Values) -> None:
    items = field
    if values.ndim == 2:
        items = field["items"]
        # Size in bytes, dimensions, no nulls, type, length, index of the first.
        length = values.shape[1]
        size = field.dtype.itemsize - 4
        field["head"] = (size, 1, 0, _TYPE_IDS[values.dtype.str[1:]], length, 1)
    if values.dtype.kind == "S":
        values = np.char.ljust(values, values.dtype.itemsize)  # NUL is no text
    items["size"] = items.dtype["value"].itemsize
    items["value"] = values
