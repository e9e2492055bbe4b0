"""Decode JPEGs on a GPU, whatever is no plain JPEG on the CPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import torch

from mining.exceptions import UnreadableImage
from mining.images import is_upright_jpeg
from mining.lanes import Decoded, Lane
from mining.loading import jpeg_operator, resized
from mining.reading import FileRead
from mining.types import Preprocessing

_RGB: Final = 3  # ImageReadMode


def decode_mixed(
    files: Sequence[FileRead], rows: torch.Tensor, lane: Lane
) -> list[Decoded]:
    """Write the pixels of each file into its row on the GPU; return what else it gave.

    A list of JPEGs of which the GPU refuses one is decoded on the CPU, which says which.

    Args:
        files: B files.
        rows: uint8 (B, H, W, C), on the GPU; the row of a file with an error has no meaning.
        lane: Decodes on the CPU.
    """
    plain = [
        n
        for n, file in enumerate(files)
        if not file.error and is_upright_jpeg(file.data)
    ]
    try:
        images = decode_jpegs([files[n].data for n in plain], rows.device)
        fit_into(images, rows, plain, lane.preprocessing)
    except (RuntimeError, UnreadableImage):
        plain = []
    done = set(plain)
    others = [n for n in range(len(files)) if n not in done]
    found = [Decoded()] * len(files)
    if others:
        pixels = lane.empty(len(others))
        by_cpu = lane.decode([files[n] for n in others], pixels.numpy())
        rows[others] = pixels.to(rows.device)
        for n, one in zip(others, by_cpu, strict=True):
            found[n] = one
    return found


def decode_jpegs(data: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
    """Return the images uint8 (3, H, W) on the GPU.

    Raises:
        RuntimeError: One of them is refused, or torchvision was built without nvJPEG.
    """
    decode = jpeg_operator("decode_jpegs_cuda")
    if decode is None:
        raise RuntimeError("this torchvision cannot decode on a GPU")
    tensors = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in data]
    images: list[torch.Tensor] = decode(tensors, _RGB, device) if tensors else []
    return images


def fit_into(
    images: Sequence[torch.Tensor],
    rows: torch.Tensor,
    places: Sequence[int],
    preprocessing: Preprocessing,
) -> None:
    """Resize and crop images uint8 (3, h, w), those of one size together, into their rows.

    Args:
        images: One for each place.
        rows: uint8 (B, H, W, 3).
        places: Indices into `rows`.
        preprocessing: Sizes and filter.

    Raises:
        UnreadableImage: An image is too thin to resize.
    """
    from torchvision.transforms.v2 import (  # noqa: PLC0415 (takes half a second)
        InterpolationMode,
        functional,
    )

    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, image in enumerate(images):
        alike[image.shape[2], image.shape[1]].append(n)
    for size, members in alike.items():
        batch = torch.stack([images[n] for n in members])  # (n, 3, h, w)
        if preprocessing.resize is not None:
            width, height = resized(size, preprocessing.resize)
            filter_ = InterpolationMode(preprocessing.interpolation)
            batch = functional.resize(batch, [height, width], filter_, antialias=True)
        batch = functional.center_crop(batch, list(preprocessing.crop))
        rows[[places[n] for n in members]] = batch.permute(0, 2, 3, 1)
