"""Run a model in a short type, and again in float32 where rounding could decide."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import torch

from mining.pace import Pace
from mining.predictors import Predictor

# Networks differ: the largest error seen was 0.02 of a sample's range of logits for a
# resnet18 and 0.3 for an EfficientNet, so each scan measures its own.
_CALIBRATED: Final = 32  # images of the first batch at most
_SAFETY: Final = 2.0  # times the largest error of those
_LEAST: Final = 4.0  # roundings, whatever was measured
_UNKNOWN: Final = 64.0  # roundings, where too few images were there to measure
_ENOUGH: Final = 8
# Float32 takes about twice as long as bfloat16 where the hardware has that. From this share
# of close calls on, both together take longer than float32 alone.
_DEAR: Final = 0.5
_TRIED: Final = 4  # batches

T = TypeVar("T")
Exactly = Callable[[list[int]], torch.Tensor]


def in_parts(
    predictor: Predictor, run: Callable[[torch.Tensor], T], batch: torch.Tensor
) -> list[T]:
    """Return what `run` gives for a batch, in parts where the memory does not suffice.

    The size that did fit is remembered with the predictor.

    Args:
        predictor: Whose `found.batch_limit` holds.
        run: Takes images uint8 (n, C, H, W).
        batch: Images uint8 (B, C, H, W).
    """
    parts: list[T] = []
    done = 0
    while done < len(batch):
        part = batch[done : done + (predictor.found.batch_limit or len(batch))]
        try:
            parts.append(run(part))
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
            predictor.found.batch_limit = len(part) // 2
            torch.cuda.empty_cache()
        else:
            done += len(part)
    return parts


@dataclass(frozen=True, slots=True)
class Bound:
    """How far rounding may move the gap between two logits of a sample.

    Attributes:
        share: The part of the range of the sample's logits.
        typical: A range below which it does not get less: logits that are all alike come
            from activations as large as any other's.
    """

    share: float
    typical: float = 0.0

    def of(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the bound (B,) of each row of logits (B, K)."""
        ranges = logits.amax(1) - logits.amin(1)
        return self.share * ranges.clamp_min(self.typical)


def near_ties(
    logits: torch.Tensor, true: torch.Tensor, *, bound: Bound, near_miss_below: float
) -> torch.Tensor:
    """Tell which rows rounding could turn into another finding.

    These are the rows whose two largest logits, or whose p_true and the threshold of near
    misses (as log odds), are no further apart than the bound; and rows that overflowed.

    Args:
        logits: float32 (B, K), computed in the shorter type.
        true: int64 (B,), indices of the true labels.
        bound: What rounding may do.
        near_miss_below: p_true (0-1) under which a right prediction is a near miss.

    Returns:
        bool (B,).

    >>> logits = torch.tensor([[5.0, 4.9, 0.0], [5.0, 1.0, 0.0]])
    >>> true = torch.tensor([0, 0])
    >>> near_ties(logits, true, bound=Bound(0.1), near_miss_below=0.6).tolist()
    [True, False]
    """
    top = logits.topk(2, dim=1).values  # (B, 2)
    limit = bound.of(logits)  # (B,)
    near = top[:, 0] - top[:, 1] <= limit
    if 0 < near_miss_below < 1:
        threshold = math.log(near_miss_below / (1 - near_miss_below))
        of_true = logits.gather(1, true[:, None])[:, 0]
        others = logits.scatter(1, true[:, None], -math.inf).logsumexp(1)
        near |= (of_true - others - threshold).abs() <= limit
    return near | ~logits.isfinite().all(1)


def measured_bound(low: torch.Tensor, exact: torch.Tensor) -> Bound:
    """Return twice the most that rounding moved the gap of a row's first two logits.

    Args:
        low: float32 (B, K), computed in the shorter type.
        exact: float32 (B, K), computed in float32.

    >>> measured_bound(torch.tensor([[4.0, 2.0, 0.0]]), torch.tensor([[4.0, 2.5, 0.0]]))
    Bound(share=0.25, typical=4.0)
    """
    first = low.topk(2, dim=1).indices
    gaps = [part.gather(1, first) for part in (low, exact)]  # (B, 2) each
    moved = ((gaps[0][:, 0] - gaps[0][:, 1]) - (gaps[1][:, 0] - gaps[1][:, 1])).abs()
    typical = float((low.amax(1) - low.amin(1)).median())
    shares = (moved / Bound(1.0, typical).of(low)).nan_to_num(posinf=0.0)
    return Bound(_SAFETY * float(shares.max()), typical)


class Recheck:
    """Computes again in float32 what rounding could decide.

    How much rounding moves is measured on the first batch of a scan, so it depends on the
    samples alone: the same shard is checked alike by every worker. Where more than half of
    the first four batches is in doubt, float32 computes all the others.

    Args:
        predictor: The model.
        near_miss_below: As in `near_ties`.
        pace: Counts the rows, and those whose predicted class changes; told when the
            shorter type is too coarse.
        is_needed: Whether the shorter type was asked for, and is kept however coarse.

    Attributes:
        is_too_coarse: Whether float32 computes what is left, as far as is known yet.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        near_miss_below: float,
        pace: Pace,
        is_needed: bool = False,
    ) -> None:
        self.is_too_coarse = False
        self._predictor = predictor
        self._below = near_miss_below
        self._pace = pace
        self._is_needed = is_needed
        self._bound: Future[Bound] = Future()
        self._lock = threading.Lock()
        self._tried: list[tuple[int, int]] = []  # close calls and rows of a batch
        self._decided: Future[None] = Future()

    def __call__(
        self,
        logits: torch.Tensor | None,
        true: torch.Tensor,
        *,
        number: int,
        pixels: Exactly,
    ) -> torch.Tensor:
        """Return the logits with the doubtful rows replaced by what float32 gives.

        All but the first batch wait until that has been measured, all but the first four
        until it is known whether the shorter type is of use.

        Args:
            logits: float32 (B, K), in the shorter type; None once that is too coarse.
            true: int64 (B,), indices of the true labels.
            number: Of the batch in the scan, from 0.
            pixels: Returns the images uint8 (n, C, H, W) of n rows.

        Returns:
            float32 (B, K).
        """
        if logits is None:
            return self._all(true, pixels)
        if self._predictor.rounding == 0:
            return logits
        if number == 0:
            self._bound.set_result(self._measured(logits, pixels))
        elif number >= _TRIED:
            self._decided.result()
            if self.is_too_coarse:
                return self._all(true, pixels)
        rows = self._near(logits, true)
        if number < _TRIED:
            self._try(len(rows), len(true))
        if not len(rows):
            return logits
        exact = self.exact(pixels(rows.tolist()))
        changed = (exact.argmax(1) != logits[rows].argmax(1)).sum()
        self._pace.count(rechecked=len(rows), changed=int(changed))
        return logits.index_copy(0, rows, exact)

    def later(
        self, logits: torch.Tensor | None, true: torch.Tensor, *, number: int
    ) -> list[int] | None:
        """Return the doubtful rows of a batch, for the caller to compute by `exact`.

        Waits as a call does.

        Returns:
            None for a batch that has to be checked by a call: one of the first four, and
            all once the shorter type is too coarse.
        """
        if logits is None or number < _TRIED:
            return None
        if self._predictor.rounding == 0:
            return []
        self._decided.result()
        if self.is_too_coarse:
            return None
        rows: list[int] = self._near(logits, true).tolist()
        return rows

    def exact(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits float32 (n, K) of images uint8 (n, C, H, W), n at least 1."""
        return torch.cat(in_parts(self._predictor, self._predictor.exact, pixels))

    def give_up(self, number: int) -> None:
        """Wake those that wait for a batch that has failed."""
        if number == 0:
            self._bound.cancel()
        if number < _TRIED:
            self._decided.cancel()

    def _try(self, near: int, rows: int) -> None:
        """Note how one of the first batches went; the last of them decides."""
        with self._lock:
            self._tried.append((near, rows))
            if len(self._tried) < _TRIED:
                return
        close, seen = map(sum, zip(*self._tried, strict=True))
        if not self._is_needed and close > _DEAR * seen >= _DEAR * _ENOUGH:
            self.is_too_coarse = True
            self._pace.describe(
                precision="float32",
                coarse=self._predictor.precision,
                close_calls=round(close / seen, 3),
            )
        if self._decided.set_running_or_notify_cancel():
            self._decided.set_result(None)

    def _near(self, logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        bound = self._bound.result()
        near = near_ties(logits, true, bound=bound, near_miss_below=self._below)
        return near.nonzero()[:, 0]

    def _all(self, true: torch.Tensor, pixels: Exactly) -> torch.Tensor:
        return self.exact(pixels(list(range(len(true)))))

    def _measured(self, logits: torch.Tensor, pixels: Exactly) -> Bound:
        rounding = self._predictor.rounding
        some = logits[:_CALIBRATED]
        if len(some) < _ENOUGH:
            return Bound(_UNKNOWN * rounding)
        exact = self.exact(pixels(list(range(len(some)))))
        bound = measured_bound(some, exact)
        return replace(bound, share=max(bound.share, _LEAST * rounding))
