"""Lists of different lengths as arrays: rows of probabilities and rows of top-k."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mining.predictions.blocks import Fault, Floats, Indices

ScalarT = TypeVar("ScalarT", bound=np.generic)
Lengths = npt.NDArray[np.int64]


def full_rows(
    lengths: Lengths, flat: Floats, width: int
) -> tuple[Floats, dict[int, Fault]]:
    """Return (B, width) numbers, NaN where a row has another length, and those rows.

    Args:
        lengths: (B,) how many numbers each row has.
        flat: The numbers of all rows, one row after the other.
        width: How many a row should have.

    >>> full_rows(np.array([2, 1]), np.array([0.5, 0.5, 1.0]), 2)[1][1].reason
    '1 probabilities for 2 classes'
    """
    if (lengths == width).all():
        return flat.reshape(len(lengths), width), {}
    faults = {
        row: Fault(
            "wrong length", f"{lengths[row]:,} probabilities for {width:,} classes"
        )
        for row in np.flatnonzero(lengths != width).tolist()
    }
    kept = np.where(lengths == width, lengths, 0)
    return _pad(lengths, kept, flat, width, np.nan), faults


def top_rows(
    lengths: Lengths,
    prob_lengths: Lengths,
    indices: Indices,
    probs: Floats,
    n_classes: int,
) -> tuple[Indices, Floats, dict[int, Fault]]:
    """Return (B, K) classes and probabilities, padded with -1, and what is wrong.

    Args:
        lengths: (B,) how many classes each row names.
        prob_lengths: (B,) how many probabilities each row has.
        indices: The classes of all rows, one row after the other; -1: unknown.
        probs: The probabilities of all rows likewise.
        n_classes: C; no row has more.
    """
    faults: dict[int, Fault] = {}
    fits = (lengths == prob_lengths) & (lengths > 0) & (lengths <= n_classes)
    for row in np.flatnonzero(~fits).tolist():
        faults[row] = Fault(
            "wrong length",
            f"{lengths[row]:,} classes and {prob_lengths[row]:,} probabilities",
        )
    kept = np.where(fits, lengths, 0)
    width = max(1, int(kept.max(initial=0)))
    tops = _pad(lengths, kept, indices, width, -2)  # -2: padding, -1: unknown
    for row in np.flatnonzero((tops == -1).any(axis=1)).tolist():
        faults[row] = Fault("unknown class", "a class is none of the data set's")
    ordered = np.sort(tops, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    for row in np.flatnonzero(twice.any(axis=1)).tolist():
        faults.setdefault(row, Fault("unknown class", "a class is named twice"))
    values = _pad(prob_lengths, kept, probs, width, -1.0)
    return np.maximum(tops, -1), values, faults


def _pad(
    lengths: Lengths,
    kept: Lengths,
    flat: npt.NDArray[ScalarT],
    width: int,
    fill: Any,
) -> npt.NDArray[ScalarT]:
    """Lay out the rows of `flat`; of those with `kept` 0 nothing is taken."""
    padded = np.full((len(lengths), width), fill, flat.dtype)
    there = np.arange(width) < kept[:, None]
    taken = np.repeat(kept > 0, lengths)
    padded[there] = flat[taken]
    return padded
