"""Train small models and heads, deterministically and in minutes on a CPU; recipes in any loop."""

from __future__ import annotations

from mining.training.datasets import FixSetDataset
from mining.training.head import extract_features, train_head
from mining.training.losses import focal_loss, hard_example_loss
from mining.training.sampler import RecipeSampler
from mining.training.small import train_small_cnn

__all__ = [
    "FixSetDataset",
    "RecipeSampler",
    "extract_features",
    "focal_loss",
    "hard_example_loss",
    "train_head",
    "train_small_cnn",
]
