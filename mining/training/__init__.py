"""Train models and heads, deterministically; recipes in any loop.

Names are imported when they are asked for: the web process reads `mining.training.settings`
and must not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mining.training.datasets import FixSetDataset
    from mining.training.head import extract_features, train_head
    from mining.training.losses import focal_loss, hard_example_loss
    from mining.training.sampler import RecipeSampler
    from mining.training.small import train_small_cnn
    from mining.training.trainer import retrain

__all__ = [
    "FixSetDataset",
    "RecipeSampler",
    "extract_features",
    "focal_loss",
    "hard_example_loss",
    "retrain",
    "train_head",
    "train_small_cnn",
]

_HOMES: Final = {
    "FixSetDataset": "datasets",
    "RecipeSampler": "sampler",
    "extract_features": "head",
    "focal_loss": "losses",
    "hard_example_loss": "losses",
    "retrain": "trainer",
    "train_head": "head",
    "train_small_cnn": "small",
}


def __getattr__(name: str) -> Any:
    """Import one of `__all__` where it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
