"""Predictions on their way into a scan: a table that only this connection sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from django.db import connection

from reviewapp.copying import copy_columns
from reviewapp.models import Dataset

# What a row needs to become an outcome, `true_label` and `predicted` as positions among the
# classes. `predicted` is -1 for a row that cannot be used.
SCALARS: Final = {
    "sample_id": ">i8",
    "file_row": ">i8",
    "true_label": ">i8",
    "predicted": ">i8",
    "confidence": ">f8",
    "p_true": ">f8",
    "margin": ">f8",
    "loss": ">f8",
}
_HEADER, _TRAILER = 19, 2  # bytes around the rows of binary COPY

Values = npt.NDArray[Any]


class Listed(NamedTuple):
    """A row, or a sample without one, that a report names."""

    row: int | None
    key: str
    other: int | None = None


@contextmanager
def staging_table() -> Iterator[None]:
    """Give this connection an empty table; it is gone with the connection at the latest."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS staged_prediction")
        cursor.execute(
            "CREATE TEMP TABLE staged_prediction (sample_id bigint, file_row bigint,"
            " true_label bigint, predicted bigint, confidence float8, p_true float8,"
            " margin float8, loss float8, top_classes bigint[], top_probs float8[])"
        )
    yield
    # After an error the connection may be gone, and the table with it.
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE staged_prediction")


def find_samples(
    dataset: Dataset, split: str, keys: Sequence[str]
) -> tuple[Values, Values]:
    """Return the ids of the samples with these keys, and of their labels; 0: there is none.

    Args:
        dataset: Whose samples.
        split: Only those of this split; "": of all.
        keys: Text that the database can hold.
    """
    found = np.zeros((2, len(keys)), np.int64)
    with connection.cursor() as cursor:
        cursor.execute(FIND, [list(keys), dataset.pk, split, split])
        rows = np.array(cursor.fetchall(), np.int64).reshape(-1, 3)
    found[:, rows[:, 0] - 1] = rows[:, 1:].T
    return found[0], found[1]


def stage(columns: Mapping[str, Values]) -> None:
    """Append rows: the scalars and `top_classes` and `top_probs`, (N, k)."""
    copy_columns("staged_prediction", columns)


def index_rows() -> None:
    """Make the staged rows quick to find; call it when all are there."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX ON staged_prediction (sample_id)")
        cursor.execute("ANALYZE staged_prediction")


def leave_out_duplicates(limit: int) -> tuple[int, list[Listed]]:
    """Mark the rows of samples that have several, and return how many and the first.

    Which of them is right cannot be told, so none is used. Rows that were bad before are
    not counted again.
    """
    with connection.cursor() as cursor:
        cursor.execute(MARK_DUPLICATES)
        cursor.execute("SELECT count(*) FROM duplicate_prediction")
        ((count,),) = cursor.fetchall()
        cursor.execute(LIST_DUPLICATES, [limit])
        listed = [Listed(*row) for row in cursor.fetchall()]
        cursor.execute("DROP TABLE duplicate_prediction")
    return count, listed


def samples_without_row(
    dataset: Dataset, split: str, limit: int
) -> tuple[int, list[Listed]]:
    """Return how many samples no row names, and the first of them."""
    with connection.cursor() as cursor:
        names: dict[str, str | int] = {
            "dataset": dataset.pk,
            "split": split,
            "limit": limit,
        }
        cursor.execute(COUNT_WITHOUT, names)
        ((count,),) = cursor.fetchall()
        if not count:
            return 0, []
        cursor.execute(LIST_WITHOUT, names)
        return count, [Listed(None, key) for (key,) in cursor.fetchall()]


def staged_rows(first: int, last: int, *, k: int) -> Values:
    """Return the usable rows of a range of sample ids, in their order.

    Args:
        first: Lowest sample id, inclusive.
        last: Highest sample id, inclusive.
        k: How many classes and probabilities each row was staged with.

    Returns:
        A structured array with the fields of `SCALARS`, `top_classes` and `top_probs`.
    """
    row = np.dtype(
        [
            ("columns", ">i2"),
            *((name, _field(kind)) for name, kind in SCALARS.items()),
            ("top_classes", _array(">i8", k)),
            ("top_probs", _array(">f8", k)),
        ]
    )
    statement = ROWS.format(columns=", ".join([*SCALARS, "top_classes, top_probs"]))
    with connection.cursor() as cursor, cursor.copy(statement, [first, last]) as copy:
        data = b"".join(copy)
    rows = np.frombuffer(data[_HEADER:-_TRAILER], row)
    plain = {name: rows[name]["value"] for name in SCALARS}
    arrays = {
        name: rows[name]["items"]["value"] for name in ("top_classes", "top_probs")
    }
    return _joined(plain, arrays, k)


def _field(kind: str) -> np.dtype[Any]:
    return np.dtype([("size", ">i4"), ("value", kind)])


def _array(kind: str, k: int) -> np.dtype[Any]:
    return np.dtype([("head", ">i4", (6,)), ("items", _field(kind), (k,))])


def _joined(plain: dict[str, Values], arrays: dict[str, Values], k: int) -> Values:
    """Return the fields side by side, in this machine's byte order."""
    kinds = [(name, kind[1:]) for name, kind in SCALARS.items()]
    joined = np.empty(
        len(plain["sample_id"]),
        np.dtype([*kinds, ("top_classes", "i8", (k,)), ("top_probs", "f8", (k,))]),
    )
    for name, values in (plain | arrays).items():
        joined[name] = values
    return joined


FIND = """
SELECT wanted.place, s.id, s.label_id
  FROM unnest(%s::text[]) WITH ORDINALITY wanted (key, place)
  JOIN reviewapp_sample s ON s.dataset_id = %s AND s.key = wanted.key
 WHERE s.removed_at IS NULL AND (%s = '' OR s.split = %s)
"""

MARK_DUPLICATES = """
CREATE TEMP TABLE duplicate_prediction AS
WITH twice AS (
  SELECT sample_id, array_agg(file_row ORDER BY file_row) AS file_rows
    FROM staged_prediction GROUP BY sample_id HAVING count(*) > 1
), marked AS (
  UPDATE staged_prediction p SET predicted = -1
    FROM twice t WHERE t.sample_id = p.sample_id AND p.predicted >= 0
  RETURNING p.file_row, p.sample_id, t.file_rows
)
SELECT file_row, sample_id,
       CASE WHEN file_rows[1] = file_row THEN file_rows[2]
            ELSE file_rows[1] END AS other
  FROM marked
"""

LIST_DUPLICATES = """
SELECT d.file_row, s.key, d.other
  FROM duplicate_prediction d JOIN reviewapp_sample s ON s.id = d.sample_id
 ORDER BY d.file_row LIMIT %s
"""

WITHOUT = """
  FROM reviewapp_sample s
 WHERE s.dataset_id = %(dataset)s AND s.removed_at IS NULL
   AND (%(split)s = '' OR s.split = %(split)s)
   AND NOT EXISTS (SELECT FROM staged_prediction p WHERE p.sample_id = s.id)
"""
COUNT_WITHOUT = f"SELECT count(*) {WITHOUT}"
LIST_WITHOUT = f"SELECT s.key {WITHOUT} ORDER BY s.id LIMIT %(limit)s"

ROWS = """
COPY (SELECT {columns} FROM staged_prediction
       WHERE sample_id BETWEEN %s AND %s AND predicted >= 0
       ORDER BY sample_id)
TO STDOUT (FORMAT BINARY)
"""
