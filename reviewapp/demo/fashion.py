"""Fashion-MNIST: 70,000 grey images, 28 x 28, of ten kinds of clothing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from django.conf import settings
from PIL import Image

from mining.exceptions import MiningError
from reviewapp.demo.folders import whole_folder

if TYPE_CHECKING:
    from reviewapp.demo.recipes import Track

CLASSES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = {"train": "train", "test": "t10k"}
DEBIAN = Path(
    "/usr/share/datasets/fashion-mnist"
)  # of the package dataset-fashion-mnist

Pixels = npt.NDArray[np.uint8]


def prepare_fashion(folder: Path, track: Track) -> None:
    """Write every image as <split>/<class>/<number>.png under `folder`.

    Raises:
        MiningError: The data set is not installed and cannot be downloaded.
    """
    parts = {split: read_part(split) for split in FILES}
    total = sum(len(labels) for _, labels in parts.values())
    with whole_folder(folder) as partial, track("Writing images", total) as meter:
        for split, (images, labels) in parts.items():
            for name in CLASSES:
                (partial / split / name).mkdir(parents=True)
            for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
                path = partial / split / CLASSES[label] / f"{number:05d}.png"
                # The fastest compression: the files are small in any case.
                Image.fromarray(pixels).save(path, compress_level=1)
                meter.advance()


def read_part(split: str) -> tuple[Pixels, Pixels]:
    """Return the images, uint8 (N, 28, 28), and class numbers, uint8 (N,), of a split.

    Raises:
        MiningError: The data set is not installed and cannot be downloaded.
    """
    source = DEBIAN if DEBIAN.is_dir() else _download()
    prefix = FILES[split]
    with gzip.open(source / f"{prefix}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(source / f"{prefix}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


def _download() -> Path:
    # Loads torch, which only this one command of the web's package may do.
    from torchvision.datasets import FashionMNIST  # noqa: PLC0415

    folder: Path = settings.VAR / "downloads"
    try:
        FashionMNIST(folder, download=True)  # checks the digests
    except (OSError, RuntimeError) as error:
        raise MiningError(
            f"Fashion-MNIST cannot be downloaded: {error}. Install Debian's package "
            "dataset-fashion-mnist, or take the other demo: make demo DATA=elpv"
        ) from error
    return folder / "FashionMNIST" / "raw"
