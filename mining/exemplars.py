"""Find what a class looks like to a model: the right predictions that it is surest of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mining.artefact import File, iter_columns
from mining.lookalikes import WITHIN

Ints: TypeAlias = npt.NDArray[np.int64]

_COLUMNS: Final = ("id", "digest", "true", "predicted", "confidence", "phash")
_ALL_BITS: Final = 2**64 - 1
_HELD: Final = 4  # times what is wanted: how much is gathered between two sorts


@dataclass(frozen=True, slots=True)
class Right:
    """A sample that was predicted right.

    Attributes:
        id: As in the outcome.
        digest: SHA-256 of the image when it was scanned.
        label: Index of its class.
        confidence: Probability of the class, 0-1.
        phash: Perceptual hash, 64 bits as a signed number; None where there is none.
    """

    id: int
    digest: str
    label: int
    confidence: float
    phash: int | None


def surest_right(artefact: File, n_classes: int, *, most: int) -> Iterator[Right]:
    """Yield the surest right predictions of each class of a scan, class by class.

    The file is read in constant memory.

    Args:
        artefact: A path, or a file open for reading.
        n_classes: K.
        most: How many of each class at most, above 0.

    Yields:
        The classes in their order, the surest first, of equals the lowest id.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    held: list[pa.Table] = []
    least = np.full(n_classes, -1.0)  # confidence that a class's next must exceed
    rows = 0
    for table in iter_columns(artefact, _COLUMNS):
        kept = table.filter(pa.array(_is_worth(table, least)))
        held.append(kept)
        rows += len(kept)
        if rows > _HELD * most * n_classes:
            surest = _surest(pa.concat_tables(held), most)
            least = _least(surest, least, most)
            held, rows = [surest], len(surest)
    if held:
        for row in _surest(pa.concat_tables(held), most).to_pylist():
            yield _right(row)


def choose_different(rows: Iterable[Right], *, most: int) -> list[Right]:
    """Return the first rows whose images do not look alike.

    Args:
        rows: Of one class, the best first.
        most: How many at most.

    >>> same, other = Right(1, "a", 0, 0.9, 0b1), Right(2, "b", 0, 0.8, 0b11)
    >>> [row.id for row in choose_different([same, other], most=6)]
    [1]
    """
    chosen: list[Right] = []
    for row in rows:
        if len(chosen) == most:
            break
        if not any(_are_alike(row, one) for one in chosen):
            chosen.append(row)
    return chosen


def _are_alike(one: Right, other: Right) -> bool:
    if one.digest == other.digest:
        return True
    if one.phash is None or other.phash is None:
        return False
    # Of negative numbers Python counts the bits of the absolute value.
    return ((one.phash ^ other.phash) & _ALL_BITS).bit_count() <= WITHIN


def _is_worth(table: pa.Table, least: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    true, confidence = table["true"].to_numpy(), table["confidence"].to_numpy()
    # An unreadable sample has no prediction, and may have no class either.
    predicted = table["predicted"].fill_null(-2).to_numpy()
    is_right: npt.NDArray[np.bool_] = predicted == true
    # Only of the right ones is the class known. Of equals the first come, whose ids are
    # lower, stay.
    is_right[is_right] = confidence[is_right] > least[true[is_right]]
    return is_right


def _surest(table: pa.Table, most: int) -> pa.Table:
    """Return the first `most` rows of each class, sorted."""
    true = table["true"].to_numpy()
    order = np.lexsort((table["id"].to_numpy(), -table["confidence"].to_numpy(), true))
    return table.take(order[_ranks(true[order]) < most]).combine_chunks()


def _ranks(groups: Ints) -> Ints:
    """Return the place of each row in its group, 0 for the first; groups are sorted."""
    rows = np.arange(len(groups))
    starts = np.r_[True, groups[1:] != groups[:-1]][: len(groups)]
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))


def _least(
    table: pa.Table, before: npt.NDArray[np.float64], most: int
) -> npt.NDArray[np.float64]:
    least = before.copy()
    true = table["true"].to_numpy()
    last = _ranks(true) == most - 1
    least[true[last]] = table["confidence"].to_numpy()[last]
    return least


def _right(row: dict[str, Any]) -> Right:
    return Right(
        id=row["id"],
        digest=row["digest"],
        label=row["true"],
        confidence=row["confidence"],
        phash=row["phash"],
    )
