"""Make the small pictures of the review pages."""

from __future__ import annotations

from io import BytesIO
from typing import Final

from PIL import Image

from mining.images import decoded

SMALL_SIDE: Final = 96
_QUALITY: Final = 80
_OVERSAMPLING: Final = 2  # what the filter needs to see of a JPEG decoded smaller


def make_thumbnail(data: bytes, *, longest_side: int) -> bytes:
    """Return a WebP of an image whose longest side is at most `longest_side` pixels.

    Images of up to 96 pixels are enlarged by a whole factor, up to a quarter of
    `longest_side`, with hard pixel edges: 28 x 28 pixels would not be seen otherwise. Others
    are never enlarged. The same bytes give the same thumbnail.

    Args:
        data: The whole file of the original.
        longest_side: In pixels, above 0.

    Raises:
        UnreadableImage: The original cannot be decoded.
    """
    if longest_side < 1:
        raise ValueError(f"longest_side must be above 0, not {longest_side}")
    with decoded(data, mode=None, enough_side=_OVERSAMPLING * longest_side) as image:
        small = _sized(image, longest_side).convert("RGB")
    buffer = BytesIO()
    small.save(buffer, "WEBP", quality=_QUALITY)
    return buffer.getvalue()


def _sized(image: Image.Image, longest_side: int) -> Image.Image:
    longest = max(image.size)
    factor = longest_side // 4 // longest
    if longest <= SMALL_SIDE and factor > 1:
        size = (image.width * factor, image.height * factor)
        return image.resize(size, Image.Resampling.NEAREST)
    if longest > longest_side:
        image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return image
