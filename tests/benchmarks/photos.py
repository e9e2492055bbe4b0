"""Make photo-like JPEGs, and networks that classify them, for the benchmarks of a scan.

    python -m tests.benchmarks.photos FOLDER --images 2000

The photographs are crops of those that scikit-image brings along. Which one it is, is the
class; one in twenty lies under a wrong label, so that a scan finds something.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from skimage import data
from torch import nn

from mining.architectures import build
from mining.loading import load_pixels
from mining.predictors import Normaliser
from mining.specs import write_spec
from mining.training.head import train_head
from mining.types import ModelSpec, Preprocessing

CLASSES = ("astronaut", "chelsea", "coffee", "rocket")
PHOTOGRAPH = Preprocessing(
    resize=256, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
_WRONG = 20  # one in so many has a wrong label
_FITTED = 128


def make_photos(folder: Path, n: int, *, size: tuple[int, int] = (500, 375)) -> None:
    """Write n JPEGs of about `size` under test/<class>; the same n give the same files."""
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(getattr(data, name)()) for name in CLASSES]
    for name in CLASSES:
        (folder / "test" / name).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        source = sources[i % len(CLASSES)]
        share = rng.uniform(0.6, 1.0)
        width = share * min(source.width, source.height * size[0] / size[1])
        height = width * size[1] / size[0]
        left = rng.uniform(0, source.width - width)
        top = rng.uniform(0, source.height - height)
        wanted = (size[0] + int(rng.integers(-10, 11)), size[1])
        image = source.resize(
            wanted,
            Image.Resampling.BICUBIC,
            box=(left, top, left + width, top + height),
        )
        wrong = (i // len(CLASSES)) % _WRONG == 0
        label = CLASSES[(i + wrong) % len(CLASSES)]
        image.save(folder / "test" / label / f"{i:06d}.jpg", "JPEG", quality=90)


def photo_pixels(folder: Path, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n of the photographs as uint8 (n, 3, 224, 224), and which they are (n,)."""
    paths = sorted(folder.rglob("*.jpg"), key=lambda path: path.name)[:n]
    rows = torch.empty(len(paths), 224, 224, 3, dtype=torch.uint8)
    for row, path in zip(rows.numpy(), paths, strict=True):
        row[:] = load_pixels(path.read_bytes(), PHOTOGRAPH)[0]
    labels = torch.tensor([int(path.stem) % len(CLASSES) for path in paths])
    return rows.permute(0, 3, 1, 2), labels


def last_layer(model: nn.Module) -> tuple[nn.Module, str]:
    """Return the parent and the name of a network's last linear layer."""
    name = [n for n, part in model.named_modules() if isinstance(part, nn.Linear)][-1]
    parent, _, own = name.rpartition(".")
    return model.get_submodule(parent), own


@torch.inference_mode()
def _features(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    parts: list[torch.Tensor] = []
    parent, name = last_layer(model)
    hook = getattr(parent, name).register_forward_pre_hook(
        lambda _, inputs: parts.append(inputs[0])
    )
    for start in range(0, len(x), 16):
        model(x[start : start + 16])
    hook.remove()
    return torch.cat(parts)


def fit_network(architecture: str, folder: Path) -> nn.Module:
    """Return a random network with norms and a last layer fitted to the photographs."""
    torch.manual_seed(0)
    model = build(architecture, len(CLASSES))
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = None  # the mean of all batches
    pixels, labels = photo_pixels(folder, _FITTED)
    x = Normaliser(PHOTOGRAPH, torch.device("cpu"))(pixels)
    with torch.no_grad():
        model.train()
        for start in range(0, 64, 16):
            model(x[start : start + 16])
    features = _features(model.eval(), x).clone()
    head = train_head(features, labels, len(CLASSES), weight_decay=0.03)
    parent, name = last_layer(model)
    getattr(parent, name).load_state_dict(head.state_dict())
    return model


def save_network(path: Path, architecture: str, folder: Path) -> Path:
    """Write a fitted network with its spec; return its path."""
    safetensors.torch.save_file(fit_network(architecture, folder).state_dict(), path)
    spec = ModelSpec("safetensors", architecture, CLASSES, PHOTOGRAPH)
    write_spec(str(path), spec)
    return path


def main() -> int:
    """Make the photographs in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    make_photos(options.folder, options.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
