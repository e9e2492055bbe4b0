"""Images of three classes that a small network can tell apart, and a model to retrain."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mining.recipe import Recipe, RecipeSample
from mining.specs import read_spec
from mining.training.settings import FileState, TrainSample, TrainSettings
from mining.training.trainer import retrain
from tests.mining.models import save_small_cnn
from tests.mining.pictures import SPEC, encode, write

QUICK = TrainSettings(epochs=3, batch_size=8, device="cpu", workers=1)


@dataclass
class Farm:
    root: Path

    @property
    def model(self) -> str:
        return str(self.root / "m.safetensors")

    @property
    def state(self) -> FileState:
        return FileState(self.root / "run.state")

    @property
    def out(self) -> Path:
        return self.root / "new.safetensors"

    def samples(self, split: str) -> list[TrainSample]:
        found = sorted((self.root / split).glob("*/*.png"))
        return [
            TrainSample(str(path.relative_to(self.root)), str(path), path.parent.name)
            for path in found
        ]

    def line(self, key: str, role="hard", label=None, **given) -> RecipeSample:
        """Return a line of a recipe with the digest that the file has."""
        digest = hashlib.sha256((self.root / key).read_bytes()).hexdigest()
        old = key.split("/")[1]
        return RecipeSample(key, digest, label or old, old, role, **given)

    def retrain(self, settings=QUICK, **given):
        chosen = {
            "parent": self.model,
            "spec": read_spec(self.model),
            "train": self.samples("train"),
            "val": self.samples("val"),
            "recipe": None,
            "out": self.out,
            "state": self.state,
        }
        return retrain(settings=settings, **chosen | given)


def make_farm(root: Path) -> Farm:
    """Write 21 train and 9 val images: a bright upper, middle or lower third, and noise."""
    luck = np.random.default_rng(3)
    for split, count in (("train", 21), ("val", 9)):
        for number in range(count):
            pixels = luck.integers(0, 120, (8, 8), np.uint8)
            kind = number % 3
            pixels[kind * 3 : kind * 3 + 2] += 100
            path = root / f"{split}/{SPEC.classes[kind]}/{number:02}.png"
            write(path, encode(Image.fromarray(pixels)))
    save_small_cnn(root / "m.safetensors")
    return Farm(root)


def recipe(*lines: RecipeSample, **given) -> Recipe:
    return Recipe(tuple(sorted(lines, key=lambda line: line.key)), **given)
