"""A data set whose labels are partly wrong, with the truth kept apart: the loop's world."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from PIL import Image

from mining.architectures import build
from mining.specs import write_spec
from mining.types import ModelSpec, Preprocessing
from reviewapp.demo.fashion import CLASSES, read_part

Noise = Literal["pair", "uniform"]

MANIFEST: Final = "manifest.csv"
ARCHITECTURE: Final = "small_cnn"
# What people mistake for each other; of the same length as `CLASSES`.
MISTAKEN_FOR: Final[Mapping[str, str]] = {
    "T-shirt": "Shirt",
    "Trouser": "Dress",
    "Pullover": "Coat",
    "Dress": "Trouser",
    "Coat": "Pullover",
    "Sandal": "Sneaker",
    "Shirt": "T-shirt",
    "Sneaker": "Ankle boot",
    "Bag": "Sandal",
    "Ankle boot": "Sneaker",
}
# Half the resolution: a quarter of the time on a CPU, and the same story.
PREPROCESSING: Final = Preprocessing(
    resize=14, crop=(14, 14), mean=(0.286,), std=(0.353,), mode="L"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many images a world has; the reference case by default."""

    train: int = 2000
    pool: int = 4000
    test: int = 2451
    wrong: float = 0.15  # of the train labels


@dataclass(frozen=True, slots=True)
class World:
    """Images by key, with the label that the data set gives each and the true one.

    The pool is the split "val", and comes later than the rest.
    """

    images: dict[str, npt.NDArray[np.uint8]]
    given: dict[str, str]
    true: dict[str, str]

    def keys_of(self, split: str) -> list[str]:
        """Return the keys of a split, sorted."""
        return sorted(key for key in self.given if key.startswith(f"{split}/"))


def draw_world(*, seed: int, noise: Noise, sizes: Sizes | None = None) -> World:
    """Draw images of Fashion-MNIST and wrong labels for the train split.

    Args:
        seed: Decides all draws.
        noise: "pair" gives each class one that it is mistaken for, "uniform" any other.
        sizes: Of the splits; the test images are of Fashion-MNIST's own test part.

    Raises:
        MiningError: Fashion-MNIST is not installed and cannot be downloaded.
    """
    sizes = sizes or Sizes()
    rng = np.random.default_rng(1000 + seed)
    images, numbers = read_part("train")
    order = rng.permutation(len(images))
    last, last_numbers = read_part("test")
    chosen = rng.permutation(len(last))[: sizes.test]
    wrong = set(rng.permutation(sizes.train)[: round(sizes.wrong * sizes.train)])
    world = World({}, {}, {})
    for n, place in enumerate(order[: sizes.train + sizes.pool]):
        name = CLASSES[numbers[place]]
        is_pool = n >= sizes.train
        key = f"{'val' if is_pool else 'train'}/{n:05d}.png"
        world.images[key], world.true[key], world.given[key] = images[place], name, name
        if not is_pool and n in wrong:
            world.given[key] = _mistaken(name, noise, rng)
    for n, place in enumerate(chosen):
        key, name = f"test/{n:05d}.png", CLASSES[last_numbers[place]]
        world.images[key], world.true[key], world.given[key] = last[place], name, name
    return world


def _mistaken(name: str, noise: Noise, rng: np.random.Generator) -> str:
    if noise == "pair":
        return MISTAKEN_FOR[name]
    away = int(rng.integers(1, len(CLASSES)))
    return CLASSES[(CLASSES.index(name) + away) % len(CLASSES)]


def write_world(world: World, folder: Path, *, splits: Collection[str]) -> None:
    """Write the images of some splits and a manifest that lists these alone."""
    keys = [key for split in splits for key in world.keys_of(split)]
    for split in splits:
        (folder / split).mkdir(parents=True, exist_ok=True)
    for key in keys:
        if not (folder / key).exists():
            Image.fromarray(world.images[key]).save(folder / key, compress_level=1)
    with (folder / MANIFEST).open("w", newline="") as file:
        manifest = csv.writer(file)
        manifest.writerow(["path", "label", "split"])
        for key in keys:
            manifest.writerow([key, world.given[key], key.partition("/")[0]])


def write_blank_model(path: Path, classes: Collection[str], *, seed: int) -> None:
    """Write a network that has learned nothing, for the first training to start from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(ARCHITECTURE, len(classes))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_spec(
        str(path),
        ModelSpec("safetensors", ARCHITECTURE, tuple(classes), PREPROCESSING),
    )
    safetensors.torch.save_file(model.state_dict(), path)
