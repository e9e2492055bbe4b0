"""Rows into PostgreSQL by COPY."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection


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
