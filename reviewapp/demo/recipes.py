"""What differs between the demo's data sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from reviewapp.demo.elpv import prepare_elpv
from reviewapp.demo.fashion import prepare_fashion
from reviewapp.management.meter import Meter

# (what goes on, how much there is to do) -> meter to use in a `with` block.
Track: TypeAlias = Callable[[str, int], Meter]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One data set of the demo.

    Attributes:
        dataset: Its name.
        folder: Its folder under the data root.
        manifest: Under the folder; empty when folders give the classes.
        model: Name of the model that is trained on it.
        checkpoint: File name under the model root.
        prepare: Writes the folder.
    """

    dataset: str
    folder: str
    manifest: str
    model: str
    checkpoint: str
    prepare: Callable[[Path, Track], None]


RECIPES = {
    "elpv": Recipe(
        dataset="Solar cells",
        folder="elpv",
        manifest="manifest.csv",
        model="EfficientNet-Lite0",
        checkpoint="elpv-efficientnet-lite0.safetensors",
        prepare=prepare_elpv,
    ),
    "fashion-mnist": Recipe(
        dataset="Fashion-MNIST",
        folder="fashion-mnist",
        manifest="",
        model="Small CNN",
        checkpoint="fashion-mnist-small-cnn.safetensors",
        prepare=prepare_fashion,
    ),
}
