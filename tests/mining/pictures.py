"""Image files made by Pillow, whole and broken."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from mining.types import ModelSpec, Preprocessing

GREY = Preprocessing(resize=8, crop=(8, 8), mean=(0.5,), std=(0.25,), mode="L")
COLOUR = Preprocessing(
    resize=8, crop=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)
)
SPEC = ModelSpec("safetensors", "small_cnn", ("cat", "dog", "owl"), GREY)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(
    seed: int, *, size: tuple[int, int] = (10, 12), mode: str = "RGB"
) -> Image.Image:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.fromarray(pixels)


def png(seed: int = 0, **options: object) -> bytes:
    return encode(noise(seed, **options))


def write(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if data is None else data)
    return path
