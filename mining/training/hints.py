"""A recipe's augmentation hints as torchvision transforms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from mining.recipe import Hint

Picture = Image.Image | torch.Tensor

CHANCE: Final = 0.5
_LOWEST_SHARE: Final = 0.6  # of the image itself when another is mixed in
_TRANSFORMS: Final[Mapping[Hint, Callable[[list[int]], v2.Transform]]] = {
    "erase": lambda _: v2.RandomErasing(p=1.0, scale=(0.05, 0.25)),
    "rotate": lambda _: v2.RandomRotation(20),
    "perspective": lambda _: v2.RandomPerspective(distortion_scale=0.3, p=1.0),
    "crop": lambda size: v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True),
    "blur": lambda _: v2.GaussianBlur(5, sigma=(0.3, 2.0)),
    "light": lambda _: v2.ColorJitter(brightness=0.4, contrast=0.4),
}


def apply_hints(
    image: Picture, hints: Iterable[Hint], *, other: Picture | None = None
) -> Picture:
    """Return an augmented copy: each hint is followed with a chance of one half.

    The size and kind stay. Random numbers are torch's own, which a DataLoader seeds in each
    worker.

    Args:
        image: A PIL image of mode L or RGB, or a tensor (1 or 3, H, W), uint8 or a float of
            0-1.
        hints: What to do, in this order.
        other: An image of the same class for the hint "mix", which without one does
            nothing; the label so stays right.

    Raises:
        ValueError: The image is of another mode, or was normalised already.
    """
    picture = _tensor(image)
    for hint in hints:
        if torch.rand(()) >= CHANCE:
            continue
        if hint in _TRANSFORMS:
            picture = _TRANSFORMS[hint](list(picture.shape[-2:]))(picture)
        elif other is not None:
            picture = _mix(picture, _tensor(other))
    if isinstance(image, Image.Image):
        changed: Picture = functional.to_pil_image(picture)
        return changed
    return picture


def _tensor(image: Picture) -> torch.Tensor:
    """Return the image as a plain tensor (C, H, W)."""
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB"):
            raise ValueError(f"hints need images of mode L or RGB, not {image.mode}")
        pixels: torch.Tensor = functional.pil_to_tensor(image)
        return pixels
    if image.is_floating_point() and not 0 <= image.min() <= image.max() <= 1:
        raise ValueError(
            "hints need pixels from 0 to 1, these are normalised already; give the"
            " transform to FixSetDataset in place of the data set below it"
        )
    return image


def _mix(image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the image with up to 40 % of another one, stretched to its size, on top."""
    share = 1 - (1 - _LOWEST_SHARE) * torch.rand(())
    size = list(image.shape[-2:])
    fitted = functional.resize(other, size, antialias=True).to(torch.float32)
    if len(image) == 1:  # grey stays grey
        fitted = fitted.mean(0, keepdim=True)
    mixed = share * image + (1 - share) * fitted
    if not image.is_floating_point():
        mixed = mixed.round()
    result: torch.Tensor = mixed.to(image.dtype)
    return result
