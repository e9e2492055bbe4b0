"""Blocks of predictions made elsewhere: what a reader yields, its check and its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mining.text import check_key

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int32]
FaultKind = Literal[
    "unreadable row",
    "wrong length",
    "missing class",
    "unknown class",
    "not a number",
    "negative",
    "wrong sum",
    "unknown key",
    "duplicate key",
    "no prediction",
]
ClassOrder = Literal["file", "given", "data set"]

SUM_TOLERANCE: Final = 1e-3
MAX_LOSS: Final = float(-np.log(np.finfo(np.float32).tiny))  # 87.3 nats, for p = 0
_BLOCK_ROWS: Final = 10_000
_BLOCK_VALUES: Final = 1_000_000


class Fault(NamedTuple):
    """What is wrong with one row."""

    kind: FaultKind
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a file of predictions.

    Attributes:
        first_row: Number of the first row in the file, from 1; a header is not a row.
        keys: B keys of samples; "" where a row has none.
        probs: (B, C) probabilities in the order of the data set's classes; with `tops`
            (B, K), padded with -1.
        tops: (B, K) class indices of `probs`, padded with -1; None: every class is there.
        share: How much of the file has been read with this block, 0-1.
        order: Where the order of the classes comes from.
        faults: Rows, from 0 in the block, that could not be read as they should.
    """

    first_row: int
    keys: Sequence[str]
    probs: Floats
    tops: Indices | None
    share: float
    order: ClassOrder
    faults: dict[int, Fault] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Scores:
    """What the predictions of a block say about its samples; B rows each.

    Attributes:
        predicted: int32 (B,), the most probable class, the first of equals.
        confidence: Its probability, 0-1.
        p_true: Probability of the true label, 0-1; lower is harder.
        margin: p(top 1) - p(top 2), 0-1; higher is surer.
        loss: Cross entropy in nats, 0 to `MAX_LOSS`; higher is harder.
        top_classes: int32 (B, k), most probable first, padded with -1.
        top_probs: (B, k), padded with -1.
        bounded: bool (B,); the true label was not among the top-k, so that `p_true` is
            the highest and `loss` the lowest that the row allows.
    """

    predicted: Indices
    confidence: Floats
    p_true: Floats
    margin: Floats
    loss: Floats
    top_classes: Indices
    top_probs: Floats
    bounded: npt.NDArray[np.bool_]


def block_rows(width: int) -> int:
    """Return how many rows of `width` numbers make a block of bounded size.

    >>> block_rows(10), block_rows(100_000)
    (10000, 10)
    """
    return max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // max(width, 1)))


def find_faults(block: Block) -> dict[int, Fault]:
    """Return row (from 0 in the block) -> the first thing that is wrong with it.

    >>> probs = np.array([[0.5, 0.5], [0.5, 0.6], [np.nan, 1.0]])
    >>> block = Block(1, ["a", "b", "c"], probs, None, 1.0, "data set")
    >>> [(row, fault.kind) for row, fault in find_faults(block).items()]
    [(1, 'wrong sum'), (2, 'not a number')]
    """
    values = block.probs if block.tops is None else _listed(block)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = values.sum(axis=1)
        off = sums - 1 if block.tops is not None else np.abs(sums - 1)
        strange = ~(off <= SUM_TOLERANCE) | (values < 0).any(axis=1)  # NaN is strange
    faults: dict[int, Fault] = {}
    for row in np.flatnonzero(strange).tolist():
        faults[row] = _explain(values[row], float(sums[row]), full=block.tops is None)
    faults.update(block.faults)
    for row, reason in _bad_keys(block.keys):
        if block.keys[row] or row not in block.faults:
            faults[row] = Fault("unreadable row", reason)
    return dict(sorted(faults.items()))


def _listed(block: Block) -> Floats:
    """Return the probabilities with 0 for the padding."""
    return np.where(block.tops == -1, 0.0, block.probs)


def _explain(row: Floats, total: float, *, full: bool) -> Fault:
    if not np.isfinite(row).all():
        return Fault("not a number", "a probability is NaN or infinite")
    if (row < 0).any():
        return Fault("negative", f"a probability is {row.min():.6g}")
    most = "" if full else "at most "
    return Fault("wrong sum", f"the probabilities sum to {total:.6g}, not {most}1")


def _bad_keys(keys: Sequence[str]) -> list[tuple[int, str]]:
    """Return the rows whose key is none, or none that a database can hold."""
    try:
        joined = "".join(keys).encode()
        if b"\0" not in joined and all(keys):
            return []
    except UnicodeEncodeError:
        pass
    bad = []
    for row, key in enumerate(keys):
        if not key:
            bad.append((row, "it has no key"))
            continue
        try:
            check_key(key)
        except ValueError as error:
            bad.append((row, str(error)))
    return bad


def score_block(block: Block, true: npt.NDArray[np.integer], *, top_k: int) -> Scores:
    """Score the rows of a block that has no faults.

    Args:
        block: As read, or the good rows of it.
        true: (B,) true labels, each 0 to C - 1.
        top_k: How many classes to keep.

    >>> probs = np.array([[0.2, 0.5, 0.3]])
    >>> block = Block(1, ["a"], probs, None, 1.0, "data set")
    >>> scores = score_block(block, np.array([2]), top_k=2)
    >>> scores.predicted.tolist(), scores.p_true.tolist(), scores.top_classes.tolist()
    ([1], [0.3], [[1, 2]])
    """
    if len(true) != len(block):
        raise ValueError(f"{len(true)} true labels for {len(block)} rows")
    if block.tops is None:
        return _score_full(block.probs, true, top_k)
    return _score_top(block.tops, block.probs, true, top_k)


def _score_full(probs: Floats, true: npt.NDArray[np.integer], top_k: int) -> Scores:
    rows = np.arange(len(probs))
    k = min(max(top_k, 2), probs.shape[1])
    classes = np.empty((len(probs), k), np.int32)
    top = np.empty((len(probs), k))
    left = probs.copy()
    # The first of equals is taken, so that ties are decided alike everywhere.
    for place in range(k):
        best = left.argmax(axis=1)
        classes[:, place], top[:, place] = best, left[rows, best]
        left[rows, best] = -1
    second = top[:, 1] if k > 1 else np.zeros(len(probs))
    bounded = np.zeros(len(probs), bool)
    return _scores(classes, top, probs[rows, true], second, bounded, top_k)


def _score_top(
    tops: Indices, probs: Floats, true: npt.NDArray[np.integer], top_k: int
) -> Scores:
    order = np.lexsort((tops, -probs), axis=1)
    classes = np.take_along_axis(tops, order, axis=1)
    top = np.take_along_axis(probs, order, axis=1)
    there = classes != -1
    known = np.where(there, top, 0.0)
    # No class that is not listed can be more probable than the last one that is, or
    # than what is left.
    last = np.where(there, top, np.inf).min(axis=1)
    bound = np.clip(np.minimum(last, 1 - known.sum(axis=1)), 0, 1)
    is_true = classes == np.asarray(true)[:, None]
    bounded = ~is_true.any(axis=1)
    p_true = np.where(bounded, bound, (known * is_true).sum(axis=1))
    second = bound
    if top.shape[1] > 1:
        second = np.where(there[:, 1], top[:, 1], bound)
    return _scores(classes, top, p_true, second, bounded, top_k)


def _scores(
    classes: Indices,
    top: Floats,
    p_true: Floats,
    second: Floats,
    bounded: npt.NDArray[np.bool_],
    top_k: int,
) -> Scores:
    p_true = np.clip(p_true, 0, 1)
    with np.errstate(divide="ignore"):
        loss = np.minimum(-np.log(p_true), MAX_LOSS)
    return Scores(
        predicted=classes[:, 0],
        confidence=np.clip(top[:, 0], 0, 1),
        p_true=p_true,
        margin=np.clip(top[:, 0] - second, 0, 1),
        loss=np.maximum(loss, 0),  # no -0.0
        top_classes=classes[:, :top_k],
        top_probs=np.minimum(top[:, :top_k], 1),
        bounded=bounded,
    )
