"""A small scan: its samples, its model, and a stand-in for a model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from mining.predictors import Found, TorchPredictor
from mining.scan import scan_samples
from mining.types import SampleRef, ScanSettings
from tests.mining.models import small_cnn
from tests.mining.pictures import GREY, SPEC, png, write

CPU = torch.device("cpu")
SETTINGS = ScanSettings(batch_size=4, top_k=2, precision="float32")


class Stub:
    """A model on the CPU that says class 0, for tests to change."""

    n_classes = 3
    device = CPU
    precision = "float32"
    rounding = 0.0

    def __init__(self):
        self.found = Found()

    def __call__(self, batch):
        return torch.tensor([[1.0, 0.0, 0.0]]).repeat(len(batch), 1)

    def exact(self, batch):
        return self(batch)


def predictor() -> TorchPredictor:
    return TorchPredictor(
        small_cnn(), SPEC, url="m", device=torch.device("cpu"), precision="float32"
    )


def samples(folder: Path, how_many: int) -> list[SampleRef]:
    found = []
    for number in range(how_many):
        data = png(number, size=(9, 11), mode="L")
        path = write(folder / f"{number}.png", data)
        digest = hashlib.sha256(data).hexdigest()
        found.append(SampleRef(100 + number, path.name, str(path), number % 3, digest))
    return found


def scan(refs, **options):
    options = {"settings": SETTINGS, "preprocessing": GREY} | options
    return list(
        scan_samples(options.pop("predictor", None) or predictor(), refs, **options)
    )
