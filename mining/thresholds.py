"""How far a model's confidence can be trusted, and from where on to trust it.

A threshold divides the samples: those at least as confident are accepted, the others are
for a person to look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from mining.artefact import File, read_classes, read_outcomes
from mining.statistics import Interval, wilson

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Binning = Literal["width", "mass"]

BINNINGS: tuple[Binning, ...] = get_args(Binning)


@dataclass(frozen=True, slots=True, eq=False)
class Confidences:
    """How sure a model was of N samples, those that could not be read left out.

    Attributes:
        classes: K names in index order.
        id: int64 (N,), identity of each sample.
        true: int64 (N,), index of the true label.
        predicted: int64 (N,), index of the predicted class.
        confidence: float32 (N,), probability of the predicted class, 0-1.
    """

    classes: tuple[str, ...]
    id: Ints
    true: Ints
    predicted: Ints
    confidence: Singles

    @property
    def right(self) -> Mask:
        """Return which samples the model has right, (N,)."""
        right: Mask = self.true == self.predicted
        return right


@dataclass(frozen=True, slots=True)
class Bin:
    """Samples of about the same confidence.

    Attributes:
        low: The bin's confidences are above this (the first bin's also equal to it),
        high: and at most this.
        count: How many samples; at least one.
        confidence: Their mean confidence, 0-1.
        accuracy: Share the model has right, 0-1.
        interval: Wilson's 95 % interval of the accuracy.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram and what it comes to.

    Attributes:
        bins: Those with a sample, in rising order of confidence.
        error: Expected calibration error, 0-1; lower is better.
        largest: The largest error of a bin, 0-1.
    """

    bins: tuple[Bin, ...]
    error: float
    largest: float


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What T thresholds give, for the samples of one class or all.

    Attributes:
        thresholds: float32 (T,), 0-1.
        coverage: float64 (T,), share of the class's samples that is accepted.
        accuracy: float64 (T,), share right of the class's samples that are accepted.
        precision: float64 (T,), share right of what is accepted as this class.
        recall: float64 (T,), share of the class's samples that is accepted and right.

    A share of nothing is nan.
    """

    thresholds: Singles
    coverage: Floats
    accuracy: Floats
    precision: Floats
    recall: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """The samples about a threshold.

    Attributes:
        count: How many.
        errors: How many of them are wrong.
        ids: int64, those closest to the threshold first, ties in the order of the scan.
    """

    count: int
    errors: int
    ids: Ints


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The threshold that costs least.

    Attributes:
        threshold: Accept from this confidence on; None to look at every sample.
        cost: What it costs in all.
        looks: Samples that a person looks at.
        errors: Wrong samples that are accepted.
        accepting_all: What it costs to look at none.
        looking_at_all: What it costs to look at every one.
    """

    threshold: float | None
    cost: float
    looks: int
    errors: int
    accepting_all: float
    looking_at_all: float


def read_confidences(file: File) -> Confidences:
    """Read what the functions of this module need of a scan's artefact.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    table = read_outcomes(file, ["id", "true", "predicted", "confidence"])
    if table["predicted"].null_count:
        table = table.filter(pc.is_valid(table["predicted"]))
    return Confidences(
        read_classes(file),
        table["id"].to_numpy(),
        table["true"].to_numpy().astype(np.int64),
        table["predicted"].to_numpy().astype(np.int64),
        table["confidence"].to_numpy(),
    )


def reliability(
    seen: Confidences, *, bins: int = 15, binning: Binning = "width"
) -> Reliability:
    """Compare confidence with accuracy, bin by bin.

    Args:
        seen: At least one sample.
        bins: How many bins, 1 or more.
        binning: "width": equally wide (Naeini et al. 2015); "mass": of equally many
            samples (Nixon et al. 2019), where samples of one confidence stay together.

    Raises:
        ValueError: There is no sample or no bin, or no such binning.
    """
    if not len(seen.id):
        raise ValueError("there is no sample to compare confidence with accuracy on")
    if bins < 1 or binning not in BINNINGS:
        raise ValueError(f"bins must be 1 or more, by width or mass: {bins}, {binning}")
    confidence = seen.confidence
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)
    if binning == "mass":
        last = -(-np.arange(1, bins + 1) * len(confidence) // bins) - 1
        highest = np.unique(np.partition(confidence, np.unique(last))[last])
        edges = np.concatenate([confidence.min(keepdims=True), highest])
    return _compute_reliability(confidence, seen.right, edges)


def curves(
    seen: Confidences,
    *,
    of: Sequence[str] = (),
    thresholds: Singles | Sequence[float] | None = None,
) -> tuple[Curve, dict[str, Curve]]:
    """Return coverage, accuracy, precision and recall against the threshold.

    Args:
        seen: The samples.
        of: Names of classes to give a curve of their own.
        thresholds: In rising order; 0, 0.01, ... 1 when None.

    Returns:
        The curve of all samples, whose precision is its accuracy, and one by class name.

    Raises:
        ValueError: A name is no class or the thresholds do not rise.
    """
    if unknown := set(of).difference(seen.classes):
        raise ValueError(f"no such class: {', '.join(sorted(unknown))}")
    at = np.asarray(
        np.arange(101) / 100 if thresholds is None else thresholds, np.float32
    )
    if not (np.diff(at) > 0).all():
        raise ValueError("thresholds must rise")
    passed = np.searchsorted(at, seen.confidence, "right")
    rows = np.full(max(len(seen.classes), 1), -1)
    rows[[seen.classes.index(name) for name in of]] = np.arange(len(of))
    accepted = _accepted(rows[seen.true], passed, len(of), len(at))
    claimed = _accepted(rows[seen.predicted], passed, len(of), len(at))
    hits = _accepted(
        np.where(seen.right, rows[seen.true], -1), passed, len(of), len(at)
    )
    own = {
        name: _curve(at, accepted[row], claimed[row], hits[row])
        for row, name in enumerate(of)
    }
    none = np.zeros_like(passed)
    every = _accepted(none, passed, 1, len(at))[0]
    right = _accepted(np.where(seen.right, none, -1), passed, 1, len(at))[0]
    return _curve(at, every, every, right), own


def band(
    seen: Confidences, threshold: float, *, width: float, most: int = 1000
) -> Band:
    """Return the samples whose confidence is within `width` of the threshold.

    Args:
        seen: The samples.
        threshold: 0-1.
        width: On either side, 0 or more; the ends are included.
        most: Ids returned at most.

    Raises:
        ValueError: A number is out of its range.
    """
    if not (0 <= threshold <= 1 and width >= 0 and most >= 0):
        raise ValueError("the threshold must be from 0 to 1, width and most 0 or more")
    low, high = np.array([threshold - width, threshold + width], np.float32)
    rows = np.flatnonzero((seen.confidence >= low) & (seen.confidence <= high))
    distance = np.abs(seen.confidence[rows] - np.float32(threshold))
    closest = rows[np.argsort(distance, kind="stable")[:most]]
    return Band(len(rows), int((~seen.right[rows]).sum()), seen.id[closest])


def cheapest_threshold(
    seen: Confidences,
    *,
    look: float,
    error: float,
    of_class: Mapping[str, float] | None = None,
    of_confusion: Mapping[tuple[str, str], float] | None = None,
) -> Cheapest:
    """Find the threshold at which errors and looks together cost least.

    Every possible threshold is tried. Whoever looks is taken to be right. Of equally cheap
    thresholds the lowest is taken: the fewest looks.

    Args:
        seen: The samples.
        look: Cost of a person looking at one sample, 0 or more.
        error: Cost of an error that is accepted, 0 or more.
        of_class: Cost of an error by its true label, where it is another.
        of_confusion: Cost of an error by (true, predicted) label, where it is another.

    Raises:
        ValueError: A cost is negative or not finite, or a name is no class.

    >>> seen = Confidences(("cat", "dog"), np.arange(4), np.zeros(4, int),
    ...     np.array([1, 0, 0, 0]), np.array([0.5, 0.5, 0.8, 0.9], np.float32))
    >>> found = cheapest_threshold(seen, look=1, error=10)
    >>> round(found.threshold, 2), found.cost, found.looks, found.errors
    (0.8, 2.0, 2, 0)
    """
    costs = costs_of(seen, error, of_class or {}, of_confusion or {})
    if not 0 <= look < np.inf:
        raise ValueError("a cost must be a number, 0 or more")
    order = np.argsort(-seen.confidence)
    confidence = seen.confidence[order]
    # The first k are accepted; equal confidences cannot be parted.
    is_cut = np.ones(len(order) + 1, np.bool_)
    is_cut[1:-1] = confidence[1:] != confidence[:-1]
    cuts = np.flatnonzero(is_cut)[::-1]
    spent = np.concatenate([[0.0], np.cumsum(costs[order])])
    totals = spent[cuts] + look * (len(order) - cuts)
    accepted = int(cuts[np.argmin(totals)])
    return Cheapest(
        threshold=_threshold(confidence, accepted),
        cost=float(totals.min()),
        looks=len(order) - accepted,
        errors=int((~seen.right[order[:accepted]]).sum()),
        accepting_all=float(spent[-1]),
        looking_at_all=look * len(order),
    )


def _compute_reliability(
    confidence: Singles, right: Mask, edges: Singles
) -> Reliability:
    place = np.searchsorted(edges[1:-1], confidence, "left")
    n = len(edges) - 1
    counts = np.bincount(place, minlength=n)
    sure = np.bincount(place, confidence, n)
    hits = np.bincount(place, right, n)
    bins = tuple(
        Bin(
            float(edges[row]),
            float(edges[row + 1]),
            int(counts[row]),
            float(sure[row] / counts[row]),
            float(hits[row] / counts[row]),
            wilson(int(hits[row]), int(counts[row])),
        )
        for row in np.flatnonzero(counts).tolist()
    )
    gaps = np.abs(sure - hits)[counts > 0]
    return Reliability(
        bins,
        float(gaps.sum() / len(confidence)),
        float((gaps / counts[counts > 0]).max()),
    )


def _accepted(rows: Ints, passed: Ints, n: int, thresholds: int) -> Ints:
    """Count the samples of each row (none where -1) that pass each threshold, (n, T + 1).

    The first column counts all of them, the others those that pass the first, the second ...
    """
    is_in = rows >= 0
    width = thresholds + 1
    places = rows[is_in] * width + passed[is_in]
    counts = np.bincount(places, minlength=n * width).reshape(n, width)
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]


def _curve(at: Singles, accepted: Ints, claimed: Ints, hits: Ints) -> Curve:
    support = np.full(len(at), accepted[0])
    return Curve(
        at,
        coverage=_ratio(accepted[1:], support),
        accuracy=_ratio(hits[1:], accepted[1:]),
        precision=_ratio(hits[1:], claimed[1:]),
        recall=_ratio(hits[1:], support),
    )


def _ratio(part: Ints, whole: Ints) -> Floats:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def costs_of(
    seen: Confidences,
    error: float,
    of_class: Mapping[str, float],
    of_confusion: Mapping[tuple[str, str], float],
) -> Floats:
    """Return what it costs to accept each sample, (N,); see `cheapest_threshold`."""
    given = np.array([error, *of_class.values(), *of_confusion.values()])
    if not ((given >= 0) & np.isfinite(given)).all():
        raise ValueError("a cost must be a number, 0 or more")
    names = {*of_class}.union(*of_confusion)
    if unknown := names.difference(seen.classes):
        raise ValueError(f"no such class: {', '.join(sorted(unknown))}")
    by_class = np.full(max(len(seen.classes), 1), float(error))
    for name, cost in of_class.items():
        by_class[seen.classes.index(name)] = cost
    costs = np.where(seen.right, 0.0, by_class[seen.true])
    for (actual, predicted), cost in of_confusion.items():
        is_this = seen.true == seen.classes.index(actual)
        is_this &= seen.predicted == seen.classes.index(predicted)
        costs[is_this & ~seen.right] = cost
    return costs


def _threshold(confidence: Singles, accepted: int) -> float | None:
    """Return the threshold that accepts the first so many of falling confidences."""
    if accepted == len(confidence):
        return 0.0
    return float(confidence[accepted - 1]) if accepted else None
