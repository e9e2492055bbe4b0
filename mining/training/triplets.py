"""Triplets for metric learning, mined by pytorch-metric-learning; the extra `metric`."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner

from mining.checks import number, one_of

Triplets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Kind = Literal["batch_hard", "semi_hard"]


def mine_triplets(
    embeddings: torch.Tensor,
    labels: torch.Tensor,
    *,
    kind: Kind = "batch_hard",
    margin: float = 0.2,
    ignore: torch.Tensor | None = None,
) -> Triplets:
    """Return the positions of anchors, positives and negatives in a batch.

    They go into `TripletMarginLoss` of pytorch-metric-learning as its third argument.

    Args:
        embeddings: float (N, D); distances are between them scaled to length 1.
        labels: int64 (N,).
        kind: "batch_hard": for each anchor the farthest of its class and the nearest of
            another (Hermans et al. 2017). "semi_hard": all negatives farther than the
            positive, by less than the margin (Schroff et al. 2015).
        margin: Of semi_hard, above 0.
        ignore: bool (N,), True for samples that are in no triplet: label errors make the
            hardest and worst ones.

    Returns:
        Three int64 tensors (T,).

    Raises:
        ValueError: `kind` is unknown or `margin` not above 0.
    """
    one_of("kind", kind, get_args(Kind))
    if number("margin", margin) <= 0:
        raise ValueError(f"margin must be above 0, not {margin}")
    places = torch.arange(len(labels), device=embeddings.device)
    if ignore is not None:
        places = places[~ignore.to(embeddings.device)]
    miner = (
        BatchHardMiner()
        if kind == "batch_hard"
        else TripletMarginMiner(margin=margin, type_of_triplets="semihard")
    )
    found = miner(embeddings[places], labels.to(embeddings.device)[places])
    anchors, positives, negatives = (places[part] for part in found)
    return anchors, positives, negatives
