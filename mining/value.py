"""What fixing a confusion would be worth; `docs/history.md` has the formulas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """What each confusion of a matrix costs; arrays of one length, a row for each.

    Attributes:
        true: int64, true labels.
        predicted: int64, predicted labels, never the true one.
        count: int64, samples of the pair.
        support: int64, samples of the true label.
        accuracy: float64, what accuracy would gain if none of them was confused, 0-1.
        macro_f1: float64, the same of the mean F1 of the classes that have a sample.
    """

    true: Ints
    predicted: Ints
    count: Ints
    support: Ints
    accuracy: Floats
    macro_f1: Floats


def fix_gains(true: Ints, predicted: Ints, count: Ints) -> Gains:
    """Return what an oracle that mends one confusion would gain, for each of them.

    As TIDE (Bolya et al. 2020) does for detection: the samples of the pair (A, B) move
    to (A, A) and everything else stays. Only the F1 of A and of B change, so each gain
    is computed in closed form.

    Args:
        true: True labels of the matrix's cells, ints >= 0, any numbering.
        predicted: Predicted labels of the cells.
        count: Samples of the cells, above 0; a cell is given once, the diagonal too.

    Raises:
        ValueError: The lengths differ, or a number is out of its range.

    >>> both = fix_gains(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([6, 2, 2]))
    >>> both.accuracy.tolist(), both.support.tolist(), both.macro_f1.round(3).tolist()
    ([0.2], [8], [0.238])
    """
    true, predicted, count = (np.asarray(a, np.int64) for a in (true, predicted, count))
    if not len(true) == len(predicted) == len(count):
        raise ValueError("true, predicted and count must have the same length")
    if len(count) and min(true.min(), predicted.min(), count.min() - 1) < 0:
        raise ValueError("labels must be 0 or more and counts 1 or more")
    return _compute_fix_gains(true, predicted, count)


def _compute_fix_gains(true: Ints, predicted: Ints, count: Ints) -> Gains:
    # The labels as 0, 1, …: they may be ids of a database.
    _, places = np.unique(np.concatenate([true, predicted]), return_inverse=True)
    t, p = places[: len(true)], places[len(true) :]
    size = int(places.max(initial=-1)) + 1
    right, support, taken = (
        np.bincount(where, weights, size).astype(np.float64)
        for where, weights in ((t[t == p], count[t == p]), (t, count), (p, count))
    )
    has_sample = support > 0
    wrong = t != p
    a, b, m = t[wrong], p[wrong], count[wrong]
    f1 = _f1(right, support, taken)
    gained = _f1(right[a] + m, support[a], taken[a] + m) - f1[a]
    gained += np.where(
        has_sample[b], _f1(right[b], support[b], taken[b] - m) - f1[b], 0
    )
    return Gains(
        true=true[wrong],
        predicted=predicted[wrong],
        count=m,
        support=support[a].astype(np.int64),
        accuracy=m / max(count.sum(), 1),
        macro_f1=gained / max(has_sample.sum(), 1),
    )


def _f1(right: Floats, support: Floats, taken: Floats) -> Floats:
    return 2 * right / np.maximum(support + taken, 1)


def fixable_share(fixable: Ints, judged: Ints) -> Floats:
    """Return the share of findings that prove fixable, as far as verdicts tell.

    The mean of a Beta distribution that starts as Beta(1, 1): one half before the first
    verdict, the plain share after many.

    Args:
        fixable: Findings confirmed or relabelled.
        judged: These and the dismissed ones.

    >>> fixable_share(np.array([0, 9]), np.array([0, 10])).round(2).tolist()
    [0.5, 0.83]
    """
    shares: Floats = (np.asarray(fixable) + 1) / (np.asarray(judged) + 2)
    return shares


def review_minutes(waiting: Ints, seconds: float) -> Floats:
    """Return how long the review of what waits takes; that of one finding at least.

    Without a least, what is reviewed already would be worth infinitely much a minute.

    Args:
        waiting: Findings without a verdict.
        seconds: For one verdict.
    """
    minutes: Floats = np.maximum(waiting, 1) * seconds / 60
    return minutes
