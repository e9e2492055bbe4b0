"""The pixels that a training run goes through again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from mining.exceptions import UnreadableImage
from mining.images import decoded
from mining.loading import decode_jpeg, preprocess
from mining.pace import Pace
from mining.reading import ReadBytes, Reader
from mining.sources.files import read_bytes
from mining.types import Preprocessing, SampleRef

ROOM: Final = 512 * 2**20


class Pixels:
    """Model inputs of samples as bytes, read when first asked for; the first ones are kept.

    Epochs repeat: what fits into `room` is decoded once. Several threads may ask at once.

    Attributes:
        unreadable: Key -> why the image is left out.
    """

    def __init__(
        self,
        samples: Sequence[SampleRef],
        preprocessing: Preprocessing,
        *,
        n_classes: int,
        room: int = ROOM,
        read: ReadBytes = read_bytes,
    ) -> None:
        """Take the samples; nothing is read yet.

        Args:
            samples: Those with a digest must still have it.
            preprocessing: The model spec's.
            n_classes: Labels are below it.
            room: Bytes of memory for pixels to keep.
            read: Returns the bytes of a URL.
        """
        self._samples = samples
        self._preprocessing = preprocessing
        self._reader = Reader(n_classes=n_classes, read=read, pace=Pace())
        height, width = preprocessing.crop
        self._shape = (height, width, preprocessing.channels)
        kept = min(len(samples), room // (height * width * preprocessing.channels))
        self._kept = torch.empty((kept, *self._shape), dtype=torch.uint8)
        self._there = torch.zeros(len(samples), dtype=torch.bool)
        self.unreadable: dict[str, str] = {}

    def rows(self, places: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images of samples.

        Args:
            places: Positions in `samples`, n of them.

        Returns:
            uint8 (m, H, W, C), and int64 (m,) with the position in `places` of each: those
            that can be read.

        Raises:
            ConnectionError: The storage cannot be reached; this says nothing of a sample.
            TimeoutError: Likewise.
        """
        wanted = torch.as_tensor(places)
        if bool(self._there[wanted].all()):
            return self._kept[wanted], torch.arange(len(places))
        found = [(n, self.one(place)) for n, place in enumerate(places)]
        read = [(n, row) for n, row in found if row is not None]
        if not read:
            return torch.empty((0, *self._shape), dtype=torch.uint8), torch.arange(0)
        return torch.stack([row for _, row in read]), torch.tensor([n for n, _ in read])

    def one(self, place: int) -> torch.Tensor | None:
        """Return uint8 (H, W, C), None when the image cannot be read."""
        if self._there[place]:
            return self._kept[place]
        sample = self._samples[place]
        if sample.key in self.unreadable:  # for the whole run, even if it is mended
            return None
        try:
            row = self._decode(sample)
        except UnreadableImage as error:
            self.unreadable[sample.key] = str(error)
            return None
        if place < len(self._kept):
            self._kept[place] = row
            self._there[place] = True  # last: other threads look here first
        return row

    def _decode(self, sample: SampleRef) -> torch.Tensor:
        file = self._reader(sample)
        if file.error:
            raise UnreadableImage(file.error)
        mode = self._preprocessing.mode
        with decoded(file.data, mode=mode, quick=decode_jpeg) as image:
            return preprocess(image, self._preprocessing).permute(1, 2, 0)
