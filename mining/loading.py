"""Turn bytes into model input, decoding ahead of the model in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mining.exceptions import UnreadableImage
from mining.images import MAX_PIXELS, decode_image, decoded, one_large_at_a_time
from mining.looks import look_of
from mining.types import Look, Preprocessing

__all__ = [
    "decode_image",
    "decode_jpeg",
    "jpeg_operator",
    "load_ahead",
    "load_pixels",
    "offset",
    "preprocess",
    "resized",
]

_FILTERS: Final = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}

Pixels = npt.NDArray[np.uint8]

_UNCHANGED: Final = 0  # ImageReadMode

T = TypeVar("T")
R = TypeVar("R")


def load_pixels(data: bytes, preprocessing: Preprocessing) -> tuple[Pixels, Look]:
    """Decode a file, make it the model's input size, and see how it looks.

    Returns:
        uint8 (H, W, C) with (H, W) the crop, not to be written to; and the look of the
        whole image.

    Raises:
        UnreadableImage: The bytes cannot be decoded; the message is the reason.
    """
    with decoded(data, mode=preprocessing.mode, quick=decode_jpeg) as image:
        pixels = np.asarray(_fitted(image, preprocessing))
        look = look_of(image, data)
    return pixels if pixels.ndim == 3 else pixels[:, :, None], look


def decode_jpeg(data: bytes) -> Image.Image | None:
    """Decode a JPEG with torchvision, in half of Pillow's time and without its lock.

    Both call libjpeg-turbo, so the pixels are the same. What it refuses is for Pillow to
    judge: None.
    """
    decode = jpeg_operator("decode_jpeg")
    if decode is None:
        return None
    try:
        pixels = decode(
            torch.frombuffer(bytearray(data), dtype=torch.uint8), _UNCHANGED
        )
    except RuntimeError:
        return None
    if pixels.shape[0] != 3:
        return None
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


@cache
def jpeg_operator(name: str) -> Callable[..., Any] | None:
    """Return an image operator of torchvision, or None where it was built without.

    torchvision.io's functions around them warn at every call since 0.29 that they will
    move to another package.
    """
    # Here, since it takes half a second to import and a data set may have no JPEG.
    import torchvision.io  # noqa: PLC0415

    del torchvision
    found: Callable[..., Any] | None = getattr(torch.ops.image, name, None)
    return found


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    """Resize the shorter side and crop the centre, as torchvision does on a Pillow image.

    Normalising is left to the device: bytes are a quarter of the floats to move.

    Args:
        image: In the mode that `preprocessing` names.
        preprocessing: Sizes and filter; an image smaller than the crop is padded with black.

    Returns:
        uint8 (C, H, W) with (H, W) the crop.

    Raises:
        UnreadableImage: The image is so thin that its long side would not fit in memory.

    >>> spec = Preprocessing(resize=8, crop=(8, 8), mean=(0.0,), std=(1.0,), mode="L")
    >>> preprocess(Image.new("L", (20, 10)), spec).shape
    torch.Size([1, 8, 8])
    """
    pixels = np.asarray(_fitted(image, preprocessing))
    if pixels.ndim == 2:
        return torch.from_numpy(pixels[None].copy())
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def _fitted(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    size = resized(image.size, preprocessing.resize)
    with one_large_at_a_time(size):
        if preprocessing.resize is not None:
            image = image.resize(size, _FILTERS[preprocessing.interpolation])
        height, width = preprocessing.crop
        left, top = offset(image.width, width), offset(image.height, height)
        if (left, top, width, height) != (0, 0, *image.size):
            image = image.crop((left, top, left + width, top + height))
    return image


def resized(size: tuple[int, int], short: int | None) -> tuple[int, int]:
    """Return width and height when the shorter side is `short` pixels.

    Raises:
        UnreadableImage: The image is so thin that the longer side would not fit in memory.
    """
    if short is None:
        return size
    width, height = size
    if width <= height:
        size = (short, int(short * height / width))
    else:
        size = (int(short * width / height), short)
    if size[0] * size[1] > MAX_PIXELS:
        raise UnreadableImage(
            f"the image is too thin to resize ({width:,} x {height:,} pixels)"
        )
    return size


def offset(have: int, want: int) -> int:
    """Return where the crop begins; below 0 where the image is padded."""
    return -((want - have) // 2) if want > have else round((have - want) / 2)


def load_ahead(
    items: Iterable[T], load: Callable[[T], R], *, threads: int, ahead: int
) -> Generator[R, None, None]:
    """Yield `load(item)` for every item in order, working up to `ahead` items in advance.

    Closing the generator stops the work that has not begun.

    Args:
        items: Read lazily, `ahead` items at most before their results are taken.
        load: Called in threads; what it raises comes out here.
        threads: Number of threads, at least 1.
        ahead: Bound of the queue, at least 1.

    >>> list(load_ahead(range(4), lambda n: n * n, threads=2, ahead=2))
    [0, 1, 4, 9]
    """
    iterator = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lane")
    try:
        queue: deque[Future[R]] = deque(
            pool.submit(load, item) for item in islice(iterator, ahead)
        )
        while queue:
            result = queue.popleft().result()
            queue.extend(pool.submit(load, item) for item in islice(iterator, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
