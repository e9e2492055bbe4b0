"""Scores of a batch: how sure the model was, and how wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class BatchScores:
    """Scores of B images, all on the CPU.

    Attributes:
        predicted: int64 (B,), index of the most probable class.
        confidence: float32 (B,), its probability, 0-1.
        p_true: float32 (B,), probability of the true label, 0-1; lower is harder.
        margin: float32 (B,), p(top 1) - p(top 2), 0-1; higher is surer.
        loss: float32 (B,), cross entropy in nats; higher is harder.
        top_classes: int64 (B, k), most probable first; a tie goes to the lower index.
        top_probs: float32 (B, k), their probabilities.
    """

    predicted: torch.Tensor
    confidence: torch.Tensor
    p_true: torch.Tensor
    margin: torch.Tensor
    loss: torch.Tensor
    top_classes: torch.Tensor
    top_probs: torch.Tensor


def score_batch(logits: torch.Tensor, true: torch.Tensor, top_k: int) -> BatchScores:
    """Score logits against the true labels.

    Args:
        logits: float32 (B, K), K at least 2.
        true: int64 (B,), each 0 to K - 1.
        top_k: How many classes to keep; K when there are fewer.

    Raises:
        ValueError: Shapes do not fit or a label is out of range.

    >>> odds = torch.tensor([[1.0, 3.0], [4.0, 1.0]])
    >>> scores = score_batch(odds.log(), torch.tensor([0, 0]), top_k=5)
    >>> scores.predicted.tolist(), scores.p_true.tolist()
    ([1, 0], [0.25, 0.800000011920929])
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or true.shape != logits.shape[:1]:
        raise ValueError(
            f"logits must be (B, K >= 2) and true (B,), not {tuple(logits.shape)} and"
            f" {tuple(true.shape)}"
        )
    if len(true) and not 0 <= int(true.min()) <= int(true.max()) < logits.shape[1]:
        raise ValueError(f"labels must be from 0 to {logits.shape[1] - 1}")
    return _compute_scores(logits.float(), true, top_k)


def _compute_scores(
    logits: torch.Tensor, true: torch.Tensor, top_k: int
) -> BatchScores:
    log_probs = torch.log_softmax(logits, dim=1)  # (B, K)
    # Sorted, not topk: a stable sort decides ties alike on every machine.
    ordered, classes = torch.sort(log_probs, dim=1, descending=True, stable=True)
    top = ordered.exp()[:, : max(top_k, 2)]
    log_true = log_probs.gather(1, true[:, None])[:, 0]  # (B,)
    return BatchScores(
        predicted=classes[:, 0],
        confidence=top[:, 0],
        p_true=log_true.exp(),
        margin=top[:, 0] - top[:, 1],
        loss=-log_true,
        top_classes=classes[:, :top_k],
        top_probs=top[:, :top_k],
    )
