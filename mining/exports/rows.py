"""Rows of a fix set as they come from the database: in order, and by image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from mining.exceptions import ArtefactError
from mining.fixset import FixRow, json_line


def in_order(rows: Iterable[FixRow]) -> Iterator[FixRow]:
    """Yield rows in the one order that the digest of a fix set has.

    Args:
        rows: By `sample_key`, then `predicted`.

    Raises:
        ValueError: They are not.
    """
    last: tuple[str, str] = ("", "")
    for place, same in groupby(rows, key=lambda row: (row.sample_key, row.predicted)):
        if place < last:
            raise ValueError(f"rows must be in order, but {place} comes after {last}")
        last = place
        # Findings with other true labels at the time: a handful at most.
        yield from sorted(same, key=json_line)


def by_image(rows: Iterable[FixRow]) -> Iterator[list[FixRow]]:
    """Yield the rows of one image after another, its hardest first.

    An image has several when several models fail on it.

    Raises:
        ArtefactError: The rows of an image do not agree on the label to train with.
    """
    for key, group in groupby(in_order(rows), key=lambda row: row.sample_key):
        same = sorted(group, key=lambda row: row.p_true)
        labels = sorted({row.label for row in same})
        if len(labels) > 1:
            raise ArtefactError(
                f"{key} has two labels to train with: {' and '.join(labels)}. Nothing was"
                " exported. Settle it in review and freeze a new fix set."
            )
        yield same
