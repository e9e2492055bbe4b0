"""Tell errors whose label is probably wrong from those where the model is weak.

Confident learning: a model that is as sure of another class as it usually is of images that
carry that class speaks against the label.

Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
Journal of Artificial Intelligence Research 70 (2021), section 3.1.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mining.artefact import File, iter_columns

Floats: TypeAlias = npt.NDArray[np.float64]
DoubtOrder = Literal["surest", "hardest"]

_FEW: Final = 20  # doubted labels that say too little of how labels go wrong


def read_class_thresholds(artefact: File, n_classes: int) -> Floats:
    """Compute `class_thresholds` of a scan's artefact, in constant memory.

    Args:
        artefact: A path, or a file open for reading.
        n_classes: K.

    Returns:
        float64 (K,).

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    sums, counts = np.zeros(n_classes), np.zeros(n_classes)
    for table in iter_columns(artefact, ["true", "p_true"]):
        _add(table["true"].to_numpy(), table["p_true"].to_numpy(), sums, counts)
    return _means(sums, counts)


def class_thresholds(
    true: npt.ArrayLike, p_true: npt.ArrayLike, n_classes: int
) -> Floats:
    """Compute how probable each class is, on average, to samples that carry its label.

    Of a model that has seen the samples in training they are too high, so that too few
    labels are doubted: take a scan of samples that it has not seen.

    Args:
        true: int (N,), labels as class indices 0 to n_classes - 1.
        p_true: float (N,), probability of the label, 0-1; NaN for a sample without a
            prediction, whose label may be any number.
        n_classes: K.

    Returns:
        float64 (K,), 0-1; NaN for a class without samples.

    >>> class_thresholds([0, 0, 1, 1], [0.9, 0.7, 0.5, float("nan")], 3).tolist()
    [0.8, 0.5, nan]
    """
    sums, counts = np.zeros(n_classes), np.zeros(n_classes)
    _add(np.asarray(true), np.asarray(p_true, np.float64), sums, counts)
    return _means(sums, counts)


def doubted_labels(
    true: npt.ArrayLike,
    predicted: npt.ArrayLike,
    confidence: npt.ArrayLike,
    thresholds: Floats,
) -> npt.NDArray[np.bool_]:
    """Tell which errors speak against the label rather than against the model.

    Args:
        true: int (N,), labels as class indices.
        predicted: int (N,), likewise.
        confidence: float (N,), probability of the prediction, 0-1.
        thresholds: float64 (K,), as `class_thresholds` gives them.

    Returns:
        bool (N,); False for right predictions, and where nothing is known of the class.

    >>> doubted_labels([0, 0, 0], [1, 1, 0], [0.9, 0.4, 0.9], np.array([0.8, 0.5]))
    array([ True, False, False])
    """
    guesses = np.asarray(predicted)
    is_sure = np.asarray(confidence) >= thresholds[guesses]  # never of NaN
    return np.asarray((guesses != np.asarray(true)) & is_sure, np.bool_)


def read_doubt_order(artefact: File, thresholds: Floats) -> DoubtOrder | None:
    """Choose how to go through a scan's errors so that wrong labels come first.

    Where labels are wrong by confusable classes the model has learned to expect it: it
    still gives such a label the second place, and its p_true tells little; the surest
    errors come first. Where they are wrong at random, nothing but p_true tells a wrong
    label from a hard image: the lowest come first. `docs/benchmarks.md` has both measured.

    Args:
        artefact: A path, or a file open for reading; constant memory.
        thresholds: float64 (K,), of the same artefact.

    Returns:
        "surest" when the model's second choice is the label in at least half of what
        `doubted_labels` doubts, else "hardest"; None when that is too little to tell.

    Raises:
        ArtefactError: The file is missing or damaged.
    """
    known = second = 0
    columns = ["true", "predicted", "confidence", "top_classes"]
    for table in iter_columns(artefact, columns):
        table = table.filter(pc.field("predicted").is_valid())  # not the unreadable
        true = table["true"].to_numpy()
        doubted = doubted_labels(
            true,
            table["predicted"].to_numpy(),
            table["confidence"].to_numpy(),
            thresholds,
        )
        tops = table["top_classes"].filter(pa.array(doubted)).to_pylist()
        for label, top in zip(true[doubted].tolist(), tops, strict=True):
            known += len(top) > 1
            second += len(top) > 1 and top[1] == label
    if known < _FEW:
        return None
    return "surest" if 2 * second >= known else "hardest"


def _add(
    true: npt.NDArray[np.int64], p_true: Floats, sums: Floats, counts: Floats
) -> None:
    known = ~np.isnan(p_true)
    sums += np.bincount(true[known], p_true[known], minlength=len(sums))
    counts += np.bincount(true[known], minlength=len(counts))


def _means(sums: Floats, counts: Floats) -> Floats:
    means = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means
