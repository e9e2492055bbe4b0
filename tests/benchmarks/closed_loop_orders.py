"""How well orders of samples find wrong labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

Floats = npt.NDArray[np.float64]
PRODUCT, RANDOM = "the product", "random"


def orders(
    probs: Floats, labels: npt.NDArray[np.int64], *, seed: int
) -> Mapping[str, Floats]:
    """Return scores (N,) by the name of the order; what is doubted most scores highest.

    cleanlab's are computed by its published formulas (`cleanlab.rank`, 2.x): 1 - self
    confidence is 1 - p_true, and its normalised margin is the largest probability of
    another class above p_true. Its filter in front of them changes neither by more than
    0.03 here.

    Args:
        probs: (N, K), of models that have not seen the sample.
        labels: (N,), as the data set has them.
        seed: Of the random order.
    """
    n = len(labels)
    rows = np.arange(n)
    p_true = probs[rows, labels]
    others = probs.copy()
    others[rows, labels] = -1.0
    is_error = probs.argmax(axis=1) != labels
    return {
        RANDOM: np.random.default_rng(seed).random(n),
        "1 - p_true": 1 - p_true,
        "confidence": np.where(is_error, probs.max(axis=1), -probs.max(axis=1)),
        "cleanlab, self confidence": 1 - p_true,
        "cleanlab, normalised margin": others.max(axis=1) - p_true,
    }


def score_of_queue(queue: Sequence[str], keys: Sequence[str]) -> Floats:
    """Return scores (N,) of a queue: what it never hands out comes last, all alike."""
    place = {key: n for n, key in enumerate(queue)}
    return np.array([-float(place.get(key, len(keys))) for key in keys])


def found(scores: Floats, is_wrong: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the precision at 100 and the average precision, each 0-1."""
    first = np.argsort(-scores, kind="stable")[:100]
    return {
        "p100": float(is_wrong[first].mean()),
        "ap": float(average_precision_score(is_wrong, scores)),
    }
