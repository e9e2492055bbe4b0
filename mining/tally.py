"""A scan's outcomes counted by confidence: any threshold is answered without the artefact.

A million outcomes become some ten thousand cells, a few hundred kilobytes.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mining.thresholds import (
    Cheapest,
    Confidences,
    Curve,
    Floats,
    Ints,
    Singles,
    costs_of,
)

Shorts: TypeAlias = npt.NDArray[Any]  # uint16: a page reads half a million of them

# Thresholds that people choose are exact: the numbers of three decimals.
STEPS: Final = 1000
# The cheapest threshold lies just above an error; of more errors some are tried.
CUTS: Final = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Outcomes counted by confidence, label and prediction.

    Attributes:
        edges: float32 (E,), rising. Bin b holds the confidences that reach b of them.
        bins: uint16 (C,), of each cell, in rising order.
        cells: Of each cell the classes; its confidence is the lower end of the bin.
        counts: int64 (C,), samples in each cell; at least one.
        starts: int64 (E + 2,), the first cell of each bin or of a later one; last C.
    """

    edges: Singles
    bins: Shorts
    cells: Confidences
    counts: Ints
    starts: Ints

    @property
    def samples(self) -> int:
        """Return how many samples were counted."""
        return int(self.counts.sum())


@dataclass(frozen=True, slots=True, eq=False)
class ClassFigures:
    """What a threshold does to each of K classes.

    Attributes:
        samples: int64 (K,), of the class.
        accepted: int64 (K,), of these, at least as confident as the threshold.
        claimed: int64 (K,), samples accepted as this class.
        right: int64 (K,), of these, rightly.
    """

    samples: Ints
    accepted: Ints
    claimed: Ints
    right: Ints


@dataclass(frozen=True, slots=True)
class BandCounts:
    """The samples whose confidence lies about a threshold.

    Attributes:
        samples: How many.
        errors: How many of them are wrong.
        near_misses: How many are right and below the confidence of a near miss.
    """

    samples: int
    errors: int
    near_misses: int


def tally(seen: Confidences, *, near_miss_below: float = 0.0) -> Tally:
    """Count samples by confidence, label and prediction.

    Args:
        seen: The samples.
        near_miss_below: A right sample below this confidence is a near miss, 0-1.

    >>> seen = Confidences(("cat", "dog"), np.arange(4), np.zeros(4, int),
    ...     np.array([1, 0, 0, 0]), np.array([0.5, 0.5, 0.8, 0.8], np.float32))
    >>> tally(seen).counts.tolist()
    [1, 1, 2]
    """
    edges = _edges(seen, near_miss_below)
    k = max(len(seen.classes), 1)
    place = np.searchsorted(edges, seen.confidence, "right")
    codes, counts = np.unique(
        (place * k + seen.true) * k + seen.predicted, return_counts=True
    )
    columns = (codes // (k * k), codes // k % k, codes % k)
    short = [column.astype(np.uint16) for column in columns]
    return _tally(seen.classes, edges, short, counts)


def to_bytes(of: Tally) -> bytes:
    """Return a tally, but for its class names, as bytes."""
    file = io.BytesIO()
    np.savez(
        file,
        edges=of.edges,
        bins=of.bins,
        true=of.cells.true,
        predicted=of.cells.predicted,
        counts=of.counts.astype(np.uint32),
    )
    return zlib.compress(file.getvalue(), 1)


def from_bytes(data: bytes, classes: Sequence[str]) -> Tally:
    """Return the tally that `to_bytes` wrote."""
    with np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False) as arrays:
        columns = [arrays[name] for name in ("bins", "true", "predicted")]
        edges, counts = arrays["edges"], arrays["counts"].astype(np.int64)
    return _tally(tuple(classes), edges, columns, counts)


def class_figures(of: Tally, threshold: float) -> ClassFigures:
    """Return what a threshold does to each class.

    Args:
        of: The tally.
        threshold: 0-1, of at most three decimals.
    """
    k = len(of.cells.classes)
    first = int(of.starts[_first(of, threshold)])
    true, predicted = of.cells.true[first:], of.cells.predicted[first:]
    counts = of.counts[first:]
    below = _sum(of.cells.true[:first], of.counts[:first], k)
    accepted = _sum(true, counts, k)
    return ClassFigures(
        samples=below + accepted,
        accepted=accepted,
        claimed=_sum(predicted, counts, k),
        right=_sum(true, counts * (true == predicted), k),
    )


def curve(of: Tally, name: str | None = None) -> Curve:
    """Return coverage, accuracy, precision and recall at 0, 0.01, ... 1.

    Args:
        of: The tally.
        name: The class; all samples when None, whose precision is their accuracy.

    Raises:
        ValueError: There is no such class.
    """
    at = (np.arange(101) / 100).astype(np.float32)
    if name is None:
        support = claims = _passing(of, at, of.counts)
        hits = _passing(of, at, of.counts * of.cells.right)
    else:
        index = of.cells.classes.index(name)
        true, claimed = of.cells.true == index, of.cells.predicted == index
        support = _passing(of, at, of.counts * true)
        claims = _passing(of, at, of.counts * claimed)
        hits = _passing(of, at, of.counts * (true & claimed))
    return Curve(
        at,
        coverage=_ratio(support, support[:1]),
        accuracy=_ratio(hits, support),
        precision=_ratio(hits, claims),
        recall=_ratio(hits, support[:1]),
    )


def band_counts(
    of: Tally,
    low: float,
    high: float,
    *,
    near_miss_below: float = 0.0,
    name: str | None = None,
) -> BandCounts:
    """Count the samples from one confidence to another, both included.

    Args:
        of: The tally, made with the same `near_miss_below`.
        low: 0-1, of at most three decimals.
        high: Likewise.
        near_miss_below: A right sample below this confidence is a near miss, 0-1.
        name: Of this class alone; of all when None.

    Raises:
        ValueError: There is no such class.
    """
    beyond = np.searchsorted(of.edges, np.float32(high), "right") + 1
    here = slice(of.starts[_first(of, low)], of.starts[beyond])
    true, counts = of.cells.true[here], of.counts[here]
    right = true == of.cells.predicted[here]
    near = of.bins[here] < _first(of, float(_ceiling(near_miss_below)))
    if name is not None:
        counts = np.where(true == of.cells.classes.index(name), counts, 0)
    return BandCounts(
        samples=int(counts.sum()),
        errors=int(counts[~right].sum()),
        near_misses=int(counts[right & near].sum()),
    )


def cheapest(
    of: Tally,
    *,
    look: float,
    error: float,
    of_class: Mapping[str, float] | None = None,
    of_confusion: Mapping[tuple[str, str], float] | None = None,
) -> tuple[Cheapest, Floats]:
    """Find the cheapest threshold, as `mining.thresholds.cheapest_threshold` does.

    It is the same one while there are at most 2,000 different confidences of errors; of
    more, every so many-th is tried.

    Returns:
        The threshold, the roundest of those that accept the same samples; and the costs
        of 0, 0.01, ... 1, float64 (101,).

    Raises:
        ValueError: A cost is negative or not finite, or a name is no class.
    """
    costs = costs_of(of.cells, error, of_class or {}, of_confusion or {})
    if not 0 <= look < np.inf:
        raise ValueError("a cost must be a number, 0 or more")
    every = np.arange(len(of.edges) + 2)  # bin from which on to accept; the last: none
    accepted = _from_bin(of, every, of.counts)
    looks = of.samples - accepted
    totals = _from_bin(of, every, costs * of.counts) + look * looks
    # A billionth is rounding; of equally cheap ones the one with the fewest looks.
    first = int(np.argmax(totals <= totals.min() * (1 + 1e-9)))
    errors = _from_bin(of, every[first : first + 1], of.counts * ~of.cells.right)
    at = np.searchsorted(of.edges, (np.arange(101) / 100).astype(np.float32)) + 1
    found = Cheapest(
        threshold=_roundest(of.edges, accepted, first),
        cost=float(totals[first]),
        looks=int(looks[first]),
        errors=int(errors[0]),
        accepting_all=float(totals[0]),
        looking_at_all=float(totals[-1]),
    )
    return found, totals[at]


def _edges(seen: Confidences, near_miss_below: float) -> Singles:
    """Return where bins part: at and above each step, and above errors."""
    steps = (np.arange(STEPS + 1) / STEPS).astype(np.float32)
    wrong = np.unique(seen.confidence[~seen.right])
    if len(wrong) > CUTS:
        wrong = wrong[np.linspace(0, len(wrong) - 1, CUTS).astype(int)]
    above = np.nextafter(np.concatenate([steps, wrong]), np.float32(2))
    return np.unique(
        np.concatenate([steps, above, [_ceiling(near_miss_below)]]).astype(np.float32)
    )


def _ceiling(value: float) -> np.float32:
    """Return the lowest float32 that is not below a number."""
    near = np.float32(value)
    # As doubles: NumPy would make a float32 of the number first, and call them equal.
    return near if float(near) >= value else np.nextafter(near, np.float32(2))


def _tally(
    classes: tuple[str, ...],
    edges: Singles,
    columns: Sequence[Shorts],
    counts: Ints,
) -> Tally:
    bins, true, predicted = columns
    lowest = np.concatenate([np.zeros(1, np.float32), edges])[bins]
    cells = Confidences(classes, np.arange(len(bins)), true, predicted, lowest)
    starts = np.searchsorted(bins, np.arange(len(edges) + 2, dtype=bins.dtype))
    return Tally(edges, bins, cells, counts, starts)


def _first(of: Tally, threshold: float) -> int:
    """Return the first bin that reaches a threshold."""
    return int(np.searchsorted(of.edges, np.float32(threshold), "left")) + 1


def _passing(of: Tally, at: Singles, counts: Ints) -> Ints:
    """Return how many of the cells' samples reach each threshold, (T,)."""
    passing: Ints = _from_bin(of, np.searchsorted(of.edges, at) + 1, counts)
    return passing


def _from_bin(of: Tally, bins: Ints, amounts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the sum of the cells' amounts from each bin on, (B,)."""
    sums = np.zeros(len(amounts) + 1, np.result_type(amounts, np.int64))
    amounts.cumsum(out=sums[1:])
    before = sums[of.starts]
    found: npt.NDArray[Any] = before[-1] - before[bins]
    return found


def _sum(of_class: Shorts, counts: Ints, k: int) -> Ints:
    return np.bincount(of_class, counts, k).astype(np.int64)


def _ratio(part: Ints, whole: Ints) -> Floats:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _roundest(edges: Singles, accepted: Ints, first: int) -> float | None:
    """Return the edge with the fewest digits that accepts what lies from a bin on."""
    if not accepted[first]:
        return None
    if accepted[first] == accepted[0]:
        return 0.0
    same = np.flatnonzero(accepted == accepted[first])
    names = [str(edge) for edge in edges[same[0] - 1 : same[-1]]]
    return float(min(names, key=len))
