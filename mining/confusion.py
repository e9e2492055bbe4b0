"""Count which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Counts: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """One confusion: a class taken for another.

    Attributes:
        actual: Name of the true class.
        predicted: Name of the class the model gave.
        count: How many samples.
        share: Count divided by all errors, 0-1.
    """

    actual: str
    predicted: str
    count: int
    share: float


def confusion_matrix(
    true: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int
) -> Counts:
    """Count predictions per true class: rows true, columns predicted.

    Args:
        true: int (N,), class indices 0 to n_classes - 1.
        predicted: int (N,), likewise.
        n_classes: Side K of the matrix.

    Returns:
        int64 (K, K); the sum is N, the diagonal the right ones.

    Raises:
        ValueError: Lengths differ or an index is out of range.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    rows, columns = np.asarray(true, np.int64), np.asarray(predicted, np.int64)
    if rows.ndim != 1 or rows.shape != columns.shape:
        raise ValueError(
            f"true {rows.shape} and predicted {columns.shape} must be (N,)"
        )
    for name, values in (("true", rows), ("predicted", columns)):
        if values.size and not 0 <= values.min() <= values.max() < n_classes:
            raise ValueError(f"{name} must be from 0 to {n_classes - 1}")
    flat = np.bincount(rows * n_classes + columns, minlength=n_classes**2)
    return flat.reshape(n_classes, n_classes).astype(np.int64)


def top_confusions(
    matrix: Counts, classes: Sequence[str], n: int
) -> list[ConfusionRow]:
    """Return the n most frequent confusions, ties in the order of the class names.

    Args:
        matrix: int64 (K, K), rows true, columns predicted.
        classes: K names in index order.
        n: How many at most.

    Raises:
        ValueError: The matrix is not (K, K) for the K classes.

    >>> top_confusions(np.array([[5, 3], [1, 4]]), ["cat", "dog"], 1)
    [ConfusionRow(actual='cat', predicted='dog', count=3, share=0.75)]
    """
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(f"the matrix is {matrix.shape} for {len(classes)} classes")
    errors = matrix - np.diag(np.diag(matrix))
    total = int(errors.sum())
    rows = [
        ConfusionRow(classes[i], classes[j], count, count / total)
        for i, j in np.argwhere(errors).tolist()
        for count in (int(errors[i, j]),)
    ]
    return sorted(rows, key=lambda row: (-row.count, row.actual, row.predicted))[:n]
