"""Losses that look at what is hard; with their defaults off, each is cross entropy."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch.nn import functional

from mining.checks import number, whole

SHARE: Final = 0.25


def focal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    gamma: float = 2.0,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean of -(1 - p)^gamma log p, p the probability of the label.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, over a softmax. With
    gamma 0 it is cross entropy.

    Args:
        logits: float (N, K).
        labels: int64 (N,), 0 to K - 1.
        gamma: 0 or more; higher leaves easy samples out more.
        class_weights: float (K,); the mean is then weighted, as torch's cross entropy has
            it.

    Returns:
        A scalar, 0 or more; lower is better.

    Raises:
        ValueError: `gamma` is below 0.
    """
    if number("gamma", gamma) < 0:
        raise ValueError(f"gamma must be 0 or more, not {gamma}")
    losses = functional.cross_entropy(logits, labels, reduction="none")  # (N,)
    # expm1 keeps 1 - p exact, and its gradient finite, for samples that are sure.
    missing = (-torch.expm1(-losses)).clamp_min(torch.finfo(losses.dtype).tiny)
    return _mean(missing**gamma * losses, _of_samples(class_weights, labels, losses))


def hard_example_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    share: float = SHARE,
    at_most: int | None = None,
    ignore: torch.Tensor | None = None,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean cross entropy of a batch's hardest samples.

    Online hard example mining (Shrivastava et al., CVPR 2016). Samples to ignore count
    neither as hard nor for the share: a label error always looks hard. With share 1 and
    nothing to ignore it is cross entropy.

    Args:
        logits: float (N, K).
        labels: int64 (N,), 0 to K - 1.
        share: Of the other samples to keep, above 0 up to 1, rounded up.
        at_most: Samples to keep at most, 1 or more; None for no limit.
        ignore: bool (N,), True for samples to leave out: `FixSetDataset.ignored[position]`.
        class_weights: float (K,); as in `focal_loss`. They do not decide what is hard.

    Returns:
        A scalar, 0 or more; 0 when all samples are ignored.

    Raises:
        ValueError: `share` or `at_most` is out of range.
    """
    if not 0 < number("share", share) <= 1:
        raise ValueError(f"share must be above 0 up to 1, not {share}")
    if at_most is not None:
        whole("at_most", at_most, 1, 2**31)
    losses = functional.cross_entropy(logits, labels, reduction="none")  # (N,)
    weights = _of_samples(class_weights, labels, losses)
    chosen = hardest(losses.detach(), share=share, at_most=at_most, ignore=ignore)
    if not len(chosen):
        return logits.sum() * 0  # a loop may still call backward
    return _mean(losses[chosen], weights[chosen])


def hardest(
    losses: torch.Tensor,
    *,
    share: float = SHARE,
    at_most: int | None = None,
    ignore: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the places that `hard_example_loss` takes, int64, the hardest first.

    Args:
        losses: float (N,), cross entropy of each sample.
        share: As there.
        at_most: As there.
        ignore: As there.
    """
    kept = torch.arange(len(losses), device=losses.device)
    if ignore is not None:
        kept = kept[~ignore.to(losses.device)]
    count = min(math.ceil(share * len(kept)), at_most or len(kept))
    return kept[losses[kept].topk(count).indices]


def _of_samples(
    class_weights: torch.Tensor | None, labels: torch.Tensor, losses: torch.Tensor
) -> torch.Tensor:
    if class_weights is None:
        return torch.ones_like(losses)
    return class_weights.to(losses)[labels]


def _mean(losses: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (losses * weights).sum() / weights.sum()
