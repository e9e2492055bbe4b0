"""Describe how an image looks: a perceptual hash and a few plain properties."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from mining.images import decoded, file_type
from mining.types import Look

_SHORT: Final = 64  # pixels of the shorter side at least, where the image has as many
_LONG: Final = 1024  # pixels of the longer side of a strip at most
_GRID: Final = 32
_FLAT: Final = 1.0  # grey levels; below it all of the hash would be rounding

# The first cosines of a grid but the constant one, (8, 32). Whole numbers, so that every
# machine finds the same hash.
_COSINES: Final = np.rint(
    4096
    * np.cos(
        np.pi * np.arange(1, 9)[:, None] * (2 * np.arange(_GRID) + 1) / (2 * _GRID)
    )
).astype(np.int64)


def look_at(data: bytes) -> Look:
    """Decode a file and return how it looks.

    Raises:
        UnreadableImage: The bytes cannot be decoded; the message is the reason.
    """
    with decoded(data, mode=None) as image:
        return look_of(image, data)


def look_of(image: Image.Image, data: bytes) -> Look:
    """Return how an image looks.

    Brightness, contrast and sharpness are those of the grey image, averaged over whole
    blocks until its shorter side has 64 to 127 pixels, so that images of several sizes
    can be compared.

    Args:
        image: RGB or L, upright.
        data: The whole file that it was decoded from.

    >>> look = look_of(Image.new("L", (200, 100), 51), b"BM")
    >>> look.phash, look.brightness, look.contrast, look.sharpness
    (None, 0.2, 0.0, 0.0)
    >>> look.width, look.height, look.file_type, look.size
    (200, 100, 'BMP', 2)
    """
    factor = max(1, min(image.size) // _SHORT, max(image.size) // _LONG)
    small = image.reduce(factor).convert("L")
    grey = np.asarray(small)  # (h, w)
    mean, variance = _moments(grey)
    deviation = variance**0.5
    return Look(
        phash=None if deviation < _FLAT else _phash(small),
        brightness=mean / 255,
        contrast=deviation / 255,
        sharpness=_moments(_laplacian(grey))[1],
        width=image.width,
        height=image.height,
        file_type=file_type(data),
        size=len(data),
    )


def _phash(grey: Image.Image) -> int:
    """Return the hash of a grey image by its 64 lowest frequencies, one bit for each.

    A bit tells whether the coefficient of the discrete cosine transform lies above the
    median. After C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010, section 3.2.1, on exact whole numbers.
    """
    small = grey.resize((_GRID, _GRID), Image.Resampling.BOX)
    found = _COSINES @ np.asarray(small, np.int64) @ _COSINES.T  # (8, 8)
    bits = found > np.median(found)
    return int(np.packbits(bits).view(">i8")[0])


def _laplacian(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Return how much each inner pixel differs from its four neighbours, (h - 2, w - 2)."""
    wide = grey.astype(np.int16)
    found = wide[:-2, 1:-1] + wide[2:, 1:-1]
    found += wide[1:-1, :-2]
    found += wide[1:-1, 2:]
    found -= 4 * wide[1:-1, 1:-1]
    return found


def _moments(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return mean and variance of whole numbers, the same on every machine; of none 0, 0."""
    # Sums below 2**53 are exact in float64, in whatever order they are taken.
    flat = values.ravel().astype(np.float64)
    if not len(flat):
        return 0.0, 0.0
    total, squares = float(flat.sum()), float(flat @ flat)
    mean = total / len(flat)
    return mean, (squares * len(flat) - total * total) / len(flat) ** 2
