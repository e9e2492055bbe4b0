"""Find images that look like nothing of their class: too dark, too flat, too blurred."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mining.artefact import File, iter_columns

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

BEYOND: Final = 6.0  # of the modified score; its authors label what is beyond 3.5
ENOUGH: Final = 20  # samples of a class; of fewer nobody knows what is usual
_MOST: Final = 1_000_000  # samples that middles are taken from
_SCORE: Final = 0.6745  # makes it the number of standard deviations of a normal one
_LOOKS: Final = ("brightness", "contrast", "sharpness")


def read_outliers(artefact: File) -> Ints:
    """Return the ids of a scan's outliers, int64 (P,), sorted, in constant memory.

    Of more than a million samples the middles are those of every second, fourth, … one.

    Args:
        artefact: A path, or a file open for reading; read twice.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    true, looks = _some(artefact)
    middles = _middles(true, looks)
    found = [np.empty(0, np.int64)]
    for table in iter_columns(artefact, ["id", "true", *_LOOKS]):
        labels, values = _columns(table)
        is_far = _scores(labels, values, middles).max(axis=1) > BEYOND
        found.append(table["id"].to_numpy()[is_far])
    return np.sort(np.concatenate(found))


def _some(artefact: File) -> tuple[Ints, Floats]:
    """Return labels (N,) and looks (N, 3) of up to a million samples, evenly spread."""
    labels, looks = [np.empty(0, np.int64)], [np.empty((0, len(_LOOKS)))]
    step, place = 1, 0
    for table in iter_columns(artefact, ["true", *_LOOKS]):
        true, values = _columns(table)
        rows = slice(-place % step, None, step)
        place += len(table)
        labels.append(true[rows])
        looks.append(values[rows])
        if sum(map(len, labels)) > _MOST:
            labels = [np.concatenate(labels)[::2]]
            looks = [np.concatenate(looks)[::2]]
            step *= 2
    return np.concatenate(labels), np.concatenate(looks)


def _columns(table: pa.Table) -> tuple[Ints, Floats]:
    looks = np.column_stack([table[name].to_numpy() for name in _LOOKS]).astype(float)
    # A variance: of twice as sharp an image it is four times as high.
    looks[:, 2] = np.log1p(looks[:, 2])
    return table["true"].to_numpy().astype(np.int64), looks


def outliers(
    true: npt.ArrayLike, looks: npt.ArrayLike, *, beyond: float = BEYOND
) -> npt.NDArray[np.bool_]:
    """Tell which samples lie far from the middle of their class in any property.

    By the modified score 0.6745 |x - median| / MAD, with the median of the absolute
    deviations, which outliers hardly move (Iglewicz and Hoaglin, "How to Detect and Handle
    Outliers", 1993). Of a class with fewer than 20 samples, or of a property that hardly
    varies in it, nothing is said.

    Args:
        true: int (N,), labels; any numbers.
        looks: float (N, D), properties; NaN where one is not known.
        beyond: Scores above are outliers.

    Returns:
        bool (N,).

    >>> looks = np.r_[np.linspace(0.4, 0.6, 30), 0.0][:, None]
    >>> np.flatnonzero(outliers(np.zeros(31, int), looks))
    array([30])
    """
    labels, values = np.asarray(true, np.int64), np.asarray(looks, np.float64)
    scores = _scores(labels, values, _middles(labels, values))
    return np.asarray((scores > beyond).any(axis=1), np.bool_)


class _Middles(NamedTuple):
    """Of each class and property the median, and the median deviation; NaN: unknown.

    Attributes:
        labels: int64 (K,), sorted.
        median: float64 (K, D).
        usual: float64 (K, D).
    """

    labels: Ints
    median: Floats
    usual: Floats


def _middles(true: Ints, looks: Floats) -> _Middles:
    labels, counts = np.unique(true, return_counts=True)
    order = np.argsort(true, kind="stable")
    median = np.full((len(labels), looks.shape[1]), np.nan)
    usual = median.copy()
    for k, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        for d, column in enumerate(looks[rows].T):
            known = column[~np.isnan(column)]
            if len(known) >= ENOUGH:
                median[k, d] = np.median(known)
                apart = np.median(np.abs(known - median[k, d]))
                least = 1e-6 * max(1.0, float(np.abs(known).max()))
                usual[k, d] = apart if apart > least else np.nan
    return _Middles(labels, median, usual)


def _scores(true: Ints, looks: Floats, middles: _Middles) -> Floats:
    """Return the modified scores, (N, D); 0 where nothing is known."""
    if not len(middles.labels):
        return np.zeros(looks.shape)
    places = np.searchsorted(middles.labels, true).clip(max=len(middles.labels) - 1)
    apart = np.abs(looks - middles.median[places])
    scores: Floats = np.nan_to_num(_SCORE * apart / middles.usual[places])
    scores[middles.labels[places] != true] = 0
    return scores
