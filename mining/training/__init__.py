"""Train small models and heads, deterministically and in minutes on a CPU."""

from __future__ import annotations

from mining.training.head import extract_features, train_head
from mining.training.small import train_small_cnn

__all__ = ["extract_features", "train_head", "train_small_cnn"]
