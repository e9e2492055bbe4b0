"""Learn from verdicts which findings are worth a look: a logistic regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

FOLDS: Final = 5
_PENALTY: Final = 1.0  # on each squared weight of a standardised score, halved
_STEPS: Final = 50  # of Newton's method; it needs some ten
_SMALL: Final = 1e-8  # a step below which it has arrived
_LIMIT: Final = 30.0  # of a log odds, so that nothing overflows


@dataclass(frozen=True, slots=True)
class Weights:
    """What makes a finding useful, in log odds.

    Attributes:
        intercept: Of a finding whose scores are all the mean.
        weights: float64 (F,), for a score of one standard deviation above its mean.
        mean: float64 (F,), of each score.
        scale: float64 (F,), its standard deviation; 1 where it is always the same.
    """

    intercept: float
    weights: Floats
    mean: Floats
    scale: Floats


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether a learned order is better than a plain one.

    Attributes:
        learned: Its average precision on verdicts it was not fitted to, 0-1.
        plain: That of the plain order on the same verdicts, 0-1.
        error: Standard error of the difference.
    """

    learned: float
    plain: float
    error: float

    @property
    def is_better(self) -> bool:
        """Tell whether the learned order is better by more than two standard errors.

        Of orders that are equally good 0 to 5 % pass, of 100 to 5,000 verdicts.
        """
        return self.learned - self.plain > 2 * self.error


def fit(scores: Floats, useful: Bools) -> Weights:
    """Fit a logistic regression by Newton's method, with a small penalty on the weights.

    The same data always give the same weights.

    Args:
        scores: float64 (N, F).
        useful: bool (N,), with both values in it.

    Raises:
        ValueError: The shapes differ, or only one value is there.

    >>> weights = fit(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1]) > 0)
    >>> bool(weights.weights[0] > 0), weights.mean.tolist()
    (True, [1.5])
    """
    _check(scores, useful)
    mean, scale = scores.mean(axis=0), scores.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    design = np.column_stack([np.ones(len(scores)), (scores - mean) / scale])
    penalty = np.diag([0.0, *[_PENALTY] * scores.shape[1]])
    found = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chance = _chance(design @ found)
        slope = design.T @ (useful - chance) - penalty @ found
        curve = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curve, slope)
        found += step
        if np.abs(step).max() < _SMALL:
            break
    return Weights(float(found[0]), found[1:], mean, scale)


def log_odds(weights: Weights, scores: Floats) -> Floats:
    """Return float64 (N,) for scores (N, F); higher is more probably useful."""
    standard = (scores - weights.mean) / weights.scale
    return np.asarray(weights.intercept + standard @ weights.weights, np.float64)


def average_precision(useful: Bools, order: Floats) -> float:
    """Return the mean precision over the useful ones, 0-1; higher is better.

    Those of equal scores are seen together, as in scikit-learn.

    Args:
        useful: bool (N,), one true at least.
        order: float64 (N,), what to sort by; the highest come first.

    >>> average_precision(np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))
    0.8333333333333333
    """
    places = np.argsort(-order, kind="stable")
    found = np.cumsum(useful[places])
    last = np.flatnonzero(np.diff(order[places], append=np.nan) != 0)  # of equals
    gained = np.diff(found[last], prepend=0)
    return float((gained * found[last] / (last + 1)).sum() / found[-1])


def compare(scores: Floats, useful: Bools, plain: Floats) -> Comparison:
    """Compare the learned order with a plain one by stratified cross-validation.

    The standard error of the mean difference over the folds is that of Nadeau and Bengio,
    "Inference for the Generalization Error", Machine Learning 52 (2003): the folds share
    most of what they were fitted to, so that the usual one would be too small.

    Args:
        scores: float64 (N, F), in the order the verdicts were given.
        useful: bool (N,), each value `FOLDS` times at least.
        plain: float64 (N,), what the plain order sorts by; the highest come first.

    Raises:
        ValueError: The shapes differ or a value is too rare.
    """
    _check(scores, useful)
    if min(useful.sum(), (~useful).sum()) < FOLDS:
        raise ValueError(f"each kind of verdict is needed {FOLDS} times at least")
    folds = _folds(useful)
    found = np.empty((FOLDS, 2))
    for n in range(FOLDS):
        held = folds == n
        odds = log_odds(fit(scores[~held], useful[~held]), scores[held])
        found[n] = (
            average_precision(useful[held], odds),
            average_precision(useful[held], plain[held]),
        )
    spread = np.var(found[:, 0] - found[:, 1], ddof=1)
    error = np.sqrt((1 / FOLDS + 1 / (FOLDS - 1)) * spread)
    mean = found.mean(axis=0)
    return Comparison(float(mean[0]), float(mean[1]), float(error))


def _check(scores: Floats, useful: Bools) -> None:
    if scores.ndim != 2 or useful.shape != scores.shape[:1]:
        raise ValueError(
            f"scores {scores.shape} and useful {useful.shape} do not match"
        )
    if useful.all() or not useful.any():
        raise ValueError("useful must hold both values")


def _chance(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds.clip(-_LIMIT, _LIMIT))), np.float64)


def _folds(useful: Bools) -> npt.NDArray[np.int64]:
    """Return the fold of each, int64 (N,): both kinds in turn, so that all times mix."""
    turns = np.where(useful, np.cumsum(useful), np.cumsum(~useful))
    return np.asarray(turns % FOLDS, np.int64)
