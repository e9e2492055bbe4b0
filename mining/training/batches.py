"""What one retraining goes through: the batches of each epoch, the same in every run."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import torch

from mining.loading import load_ahead
from mining.training.datasets import FixSetDataset
from mining.training.hints import apply_hints
from mining.training.pixels import Pixels
from mining.training.sampler import RecipeSampler

_PIECE: Final = 16  # images that one thread reads at a time
_AHEAD: Final = 8  # pieces that wait, beside one for each thread


@dataclass(frozen=True, slots=True)
class Batch:
    """Some samples on the CPU.

    Attributes:
        pixels: uint8 (B, C, H, W), its memory in channels-last order.
        labels: int64 (B,), class indices.
        ignored: bool (B,), True where a loss says nothing about the model.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    ignored: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, size: int) -> Iterator[Batch]:
        """Yield parts of as equal a size as can be, of at most `size`."""
        for places in torch.arange(len(self)).tensor_split(-(-len(self) // size)):
            part = slice(int(places[0]), int(places[-1]) + 1)
            yield Batch(self.pixels[part], self.labels[part], self.ignored[part])


class Batches:
    """Draws each epoch and reads ahead of the one who trains.

    Whatever is random depends on the seed, the epoch and the position alone, so that a run
    can go on from any step.
    """

    def __init__(
        self,
        data: FixSetDataset,
        labels: Sequence[int],
        pixels: Pixels,
        *,
        val: range,
        batch_size: int,
        seed: int,
        threads: int,
    ) -> None:
        """Take what to train on.

        Args:
            data: Its entries are trained on; at least one.
            labels: Class index of each sample that `pixels` has, before the recipe.
            pixels: Of the samples of `data` and then those to validate with.
            val: Positions in `pixels` of the samples to validate with.
            batch_size: Samples in one step.
            seed: Decides the order and every augmentation.
            threads: How many read and decode.
        """
        self._data = data
        self._pixels = pixels
        self._val = val
        self._val_labels = torch.tensor([labels[n] for n in val], dtype=torch.int64)
        self._places = [entry.index for entry in data.entries]
        self._labels = torch.tensor(
            [
                labels[entry.index] if entry.label is None else entry.label
                for entry in data.entries
            ],
            dtype=torch.int64,
        )
        self._sampler = RecipeSampler(data, seed=seed, rank=0, world_size=1)
        self._size = batch_size
        self._seed = seed
        self._threads = threads
        self.steps = -(-len(data) // batch_size)

    def train(self, epoch: int, *, first: int) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch from step `first` on, both counted from 0."""
        self._sampler.set_epoch(epoch)
        drawn = torch.tensor(list(self._sampler)).tensor_split(self.steps)[first:]
        places = [[self._places[n] for n in items.tolist()] for items in drawn]
        with closing(self._read(places)) as batches:
            for step, (rows, kept) in enumerate(batches, start=first):
                items = drawn[step - first][kept]
                images = rows.permute(0, 3, 1, 2)
                self._augment(images, items, name=f"{epoch}/{step}")
                yield Batch(images, self._labels[items], self._data.ignored[items])

    def val(self) -> Generator[Batch, None, None]:
        """Yield the samples to validate with, in their order."""
        starts = range(0, len(self._val), self._size)
        places = [self._val[n : n + self._size] for n in starts]
        with closing(self._read(places)) as batches:
            for start, (rows, kept) in zip(starts, batches, strict=True):
                labels = self._val_labels[start + kept]
                none = torch.zeros(len(labels), dtype=torch.bool)
                yield Batch(rows.permute(0, 3, 1, 2), labels, none)

    def _read(
        self, places: Sequence[Sequence[int]]
    ) -> Generator[tuple[torch.Tensor, torch.Tensor], None, None]:
        """Yield `Pixels.rows` of each list of positions, read ahead in pieces."""
        pieces = (
            part[n : n + _PIECE] for part in places for n in range(0, len(part), _PIECE)
        )
        ahead = self._threads + _AHEAD
        loaded = load_ahead(
            pieces, self._pixels.rows, threads=self._threads, ahead=ahead
        )
        with closing(loaded):
            for part in places:
                starts = range(0, len(part), _PIECE)
                found = [(start, *next(loaded)) for start in starts]
                yield (
                    torch.cat([rows for _, rows, _ in found]),
                    torch.cat([kept + start for start, _, kept in found]),
                )

    def _augment(self, images: torch.Tensor, items: torch.Tensor, *, name: str) -> None:
        """Follow the hints of a batch in place."""
        for n, item in enumerate(items.tolist()):
            entry = self._data.entries[item]
            if not entry.hints:
                continue
            # Not torch.manual_seed, which would also queue a seed for every GPU.
            torch.default_generator.manual_seed(seed_of(self._seed, f"{name}/{n}"))
            place = self._data.partner(entry)
            other = None if place is None else self._pixels.one(place)
            mixed = None if other is None else other.permute(2, 0, 1)
            images[n] = torch.as_tensor(
                apply_hints(images[n], entry.hints, other=mixed)
            )


def seed_of(seed: int, name: str) -> int:
    """Return a seed, 0 to 2^63 - 1, for one of the places where luck is needed."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
