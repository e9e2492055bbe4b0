"""Find which attributes together go with errors: a small decision tree, tested for luck."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

# Not scipy.stats, as in mining.statistics.
from scipy import special

from mining.slices import (
    Column,
    Floats,
    Ints,
    Mask,
    Part,
    Parted,
    Rate,
    checked,
    part_values,
    rate_of,
)

MAX_DEPTH: Final = 3
# The score of a leaf does not depend on how many samples there are: what luck gives can be
# learnt on as many as this.
_LEARNT_ON: Final = 50_000
# A step that luck explains makes a leaf harder to read and to believe.
_WORTH: Final = 0.05
_BINS: Final = 32
_TOP: Final = 20


@dataclass(frozen=True, slots=True)
class Condition:
    """What a leaf asks of one attribute.

    Attributes:
        attribute: Its name.
        sign: "is", "is not" (a text, or None for missing), "<=" or ">" (a number). A
            missing number is above every number.
        value: The text or number, None for missing.
    """

    attribute: str
    sign: Literal["is", "is not", "<=", ">"]
    value: str | float | None


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """Samples that meet a few conditions.

    Attributes:
        conditions: All of them are met; none for a tree that was not parted.
        figures: The errors among these samples.
        p: How often the leaf of a tree grown on shuffled errors stands out as much, 0-1;
            being one of several leaves is allowed for.
        rows: int64, the places of these samples in the columns, in rising order.
    """

    conditions: tuple[Condition, ...]
    figures: Rate
    p: float
    rows: Ints


@dataclass(frozen=True, slots=True)
class _Grown:
    """A leaf before it is tested: its rows and how it was reached (bin, was it met)."""

    rows: Ints
    path: tuple[tuple[int, bool], ...] = ()


class _Bins:
    """The parts of all attributes side by side, B in all, for counting them at once.

    Args:
        parted: The attributes of N samples.
    """

    def __init__(self, parted: Sequence[Parted]) -> None:
        sizes = np.array([len(each.parts) for each in parted], np.int64)
        starts = np.cumsum(sizes) - sizes
        self.owners = np.repeat(np.arange(len(sizes)), sizes)  # (B,)
        self.starts = np.repeat(starts, sizes)  # (B,)
        self.parts = [each for all_ in parted for each in all_.parts]
        self.is_ordered = np.array([each.kind == "range" for each in self.parts])
        self.is_other = np.array([each.kind == "other" for each in self.parts])
        # (N, C): a row at a time is gathered.
        self.codes = np.stack(
            [each.codes + start for each, start in zip(parted, starts, strict=True)], 1
        )

    def count(self, rows: Ints) -> Ints:
        """Return how many of the rows meet the condition of each bin, (B,)."""
        counts = np.bincount(self.codes[rows].ravel(), minlength=len(self.parts))
        total = np.cumsum(counts)
        below = total - (total - counts)[self.starts]
        return np.where(self.is_ordered, below, counts)

    def meets(self, rows: Ints, place: int) -> Mask:
        """Return which of the rows meet the condition of a bin, (n,)."""
        codes = self.codes[rows, self.owners[place]]
        met: Mask = codes <= place if self.is_ordered[place] else codes == place
        return met


def slice_tree(
    columns: Mapping[str, Column],
    wrong: Mask,
    *,
    depth: int = MAX_DEPTH,
    min_size: int | None = None,
    permutations: int = 199,
    seed: int = 0,
) -> list[Leaf]:
    """Grow a decision tree on the errors; return its leaves, highest error rate first.

    Each step takes the condition that lowers the Gini impurity most (CART), unless luck
    explains it. What luck gives is learnt from trees grown in the same way on shuffled
    errors.

    Args:
        columns: Values of N samples by attribute, as in `slice_tables`.
        wrong: bool (N,), which samples are errors.
        depth: Conditions on the way to a leaf, 1 to 3.
        min_size: Samples of a leaf at least; a hundredth of all, but 20, when None.
        permutations: Shuffled trees, 1 or more; p is at least 1 / (permutations + 1).
        seed: The same seed gives the same p values.

    Returns:
        Leaves that share out the samples; without an error there is none.

    Raises:
        ValueError: A length differs or a number is out of its range.

    >>> wrong = np.array([True] * 30 + [False] * 70)
    >>> columns = {"light": ["night"] * 30 + ["day"] * 70}
    >>> for leaf in slice_tree(columns, wrong):
    ...     print(leaf.conditions[0].value, leaf.figures.rate, leaf.p)
    night 1.0 0.005
    day 0.0 1.0
    """
    wrong = checked(columns, wrong)
    least = max(20, len(wrong) // 100) if min_size is None else min_size
    if not 1 <= depth <= MAX_DEPTH or least < 1 or permutations < 1:
        raise ValueError(
            f"depth must be 1 to {MAX_DEPTH}, min_size and permutations 1 or more"
        )
    if not wrong.any():
        return []
    parted = [
        part_values(name, column, _BINS, _TOP) for name, column in columns.items()
    ]
    parted = [each for each in parted if len(each.parts) > 1]
    if not parted:
        rows = np.arange(len(wrong))
        return [Leaf((), _rate(rows, wrong), 1.0, rows)]
    bins = _Bins(parted)
    grown = _grow(bins, np.arange(len(wrong)), wrong, depth, least)
    luck = _luck(bins, wrong, depth, least, permutations, seed)
    leaves = [
        Leaf(
            _conditions(leaf.path, bins, parted),
            _rate(leaf.rows, wrong),
            # One more for the tree itself, which is as likely under luck as the others.
            float((1 + (luck >= _score(leaf.rows, wrong)).sum()) / (1 + permutations)),
            leaf.rows,
        )
        for leaf in grown
    ]
    return sorted(leaves, key=lambda leaf: (-leaf.figures.rate, leaf.rows[0]))


def _grow(
    bins: _Bins,
    rows: Ints,
    wrong: Mask,
    depth: int,
    least: int,
    path: tuple[tuple[int, bool], ...] = (),
) -> list[_Grown]:
    place = _best(bins, rows, wrong, least) if depth else None
    if place is None:
        return [_Grown(rows, path)]
    met = bins.meets(rows, place)
    return [
        leaf
        for side in (True, False)
        for leaf in _grow(
            bins, rows[met == side], wrong, depth - 1, least, (*path, (place, side))
        )
    ]


def _best(bins: _Bins, rows: Ints, wrong: Mask, least: int) -> int | None:
    """Return the bin whose condition parts the rows best; None when none does."""
    of_these = rows[wrong[rows]]
    n, errors = len(rows), len(of_these)
    size, hits = bins.count(rows), bins.count(of_these)
    is_allowed = (size >= least) & (n - size >= least) & ~bins.is_other
    if errors in (0, n) or not is_allowed.any():
        return None
    # Half the fall of the Gini impurity, summed over the samples.
    gain = hits**2 / np.maximum(size, 1)
    gain += (errors - hits) ** 2 / np.maximum(n - size, 1) - errors**2 / n
    gain[~is_allowed] = 0
    place = int(np.argmax(gain))
    # Pearson's chi-square of the two sides, against the best of so many tries.
    chi_square = gain[place] / (errors / n * (1 - errors / n))
    p = float(special.chdtrc(1, chi_square)) * int(is_allowed.sum())
    return place if p < _WORTH else None


def _luck(
    bins: _Bins, wrong: Mask, depth: int, least: int, permutations: int, seed: int
) -> Floats:
    """Return the highest score of a leaf in each tree of shuffled errors."""
    random = np.random.default_rng(seed)
    n, errors = len(wrong), int(wrong.sum())
    # With fewer errors than a thousand the score's distribution would be another.
    enough = min(n, max(_LEARNT_ON, math.ceil(1000 * n / errors)))
    rows = np.sort(random.choice(n, enough, replace=False))
    shuffled = np.zeros(n, np.bool_)
    marks = np.arange(enough) < round(errors * enough / n)
    least = max(1, least * enough // n)
    best = np.zeros(permutations)
    for turn in range(permutations):
        shuffled[rows] = random.permutation(marks)
        grown = _grow(bins, rows, shuffled, depth, least)
        best[turn] = max(
            _score(leaf.rows, shuffled, among=enough, errors=int(marks.sum()))
            for leaf in grown
        )
    return best


def _score(
    rows: Ints, wrong: Mask, *, among: int | None = None, errors: int | None = None
) -> float:
    """Return by how many standard deviations a leaf has more errors than it should."""
    n = len(wrong) if among is None else among
    all_errors = int(wrong.sum()) if errors is None else errors
    mean = len(rows) * all_errors / n
    variance = mean * (1 - all_errors / n) * (n - len(rows)) / max(n - 1, 1)
    if variance <= 0:
        return 0.0
    return float((wrong[rows].sum() - mean) / math.sqrt(variance))


def _rate(rows: Ints, wrong: Mask) -> Rate:
    return rate_of(len(rows), int(wrong[rows].sum()), int(wrong.sum()), len(wrong))


def _conditions(
    path: Sequence[tuple[int, bool]], bins: _Bins, parted: Sequence[Parted]
) -> tuple[Condition, ...]:
    """Return what a path asks, without what a later step says more closely."""
    found: dict[tuple[object, ...], Condition] = {}
    for place, met in path:
        one = _condition(parted[bins.owners[place]], bins.parts[place], met=met)
        if one.sign == "is":
            found = {k: v for k, v in found.items() if v.attribute != one.attribute}
        is_text = one.sign in ("is", "is not")
        found[one.attribute, one.sign, one.value if is_text else None] = one
    return tuple(found.values())


def _condition(of: Parted, part: Part, *, met: bool) -> Condition:
    if part.kind == "range":
        return Condition(of.name, "<=" if met else ">", part.high)
    others = [each for each in of.parts if each != part]
    if not met and len(others) == 1 and others[0].kind == "value":
        part, met = others[0], True  # of two values, not the one is the other
    value = None if part.kind == "missing" else part.value
    return Condition(of.name, "is" if met else "is not", value)
