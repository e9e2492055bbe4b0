"""Draw a recipe's items by their weights, alone or on several ranks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import distributed
from torch.utils.data import Sampler

from mining.checks import whole
from mining.training.datasets import FixSetDataset


class RecipeSampler(Sampler[int]):
    """Draws every item as often as its weight says, in a new order each epoch.

    Of n draws an item gets n * weight / sum of weights, rounded down or up at random:
    systematic sampling. Equal weights are a plain shuffle, each item once. All ranks make
    the same draw and each takes every `world_size`-th of it, so that together they have it
    exactly, whatever their number.

    An epoch is as long as the data set, rounded up until all ranks have equally much.
    """

    def __init__(
        self,
        data: FixSetDataset,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Take the weights of a data set; give it to a DataLoader as `sampler`.

        Args:
            data: The data set to draw from.
            seed: 0 to 2^31 - 1; the same on all ranks.
            rank: Of this process; None asks torch.distributed, else 0.
            world_size: How many processes; None asks torch.distributed, else 1.

        Raises:
            ValueError: The data set is empty, or a number is out of range.
        """
        if not len(data):
            raise ValueError("the data set is empty")
        together = distributed.is_available() and distributed.is_initialized()
        if world_size is None:
            world_size = distributed.get_world_size() if together else 1
        if rank is None:
            rank = distributed.get_rank() if together else 0
        self._world_size = whole("world_size", world_size, 1, 2**20)
        self._rank = whole("rank", rank, 0, world_size - 1)
        self._seed = whole("seed", seed, 0, 2**31 - 1)
        self._weights = data.weights
        self._length = -(-len(data) // world_size)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, 0 to 2^31 - 1: each has its own draw and order."""
        self._epoch = whole("epoch", epoch, 0, 2**31 - 1)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        drawn = self._draw(self._length * self._world_size)
        return iter(drawn[self._rank :: self._world_size].tolist())

    def _draw(self, count: int) -> torch.Tensor:
        """Return `count` positions, the same on all ranks."""
        generator = torch.Generator().manual_seed((self._seed << 31) + self._epoch)
        # A fresh order each time: neighbours would otherwise share their luck for ever.
        order = torch.randperm(len(self._weights), generator=generator)
        ends = self._weights[order].cumsum(0)
        start = torch.rand((), generator=generator, dtype=torch.float64)
        points = (torch.arange(count, dtype=torch.float64) + start) / count * ends[-1]
        found = torch.searchsorted(ends, points, right=True)
        drawn = order[
            found.clamp_max(len(order) - 1)
        ]  # a point may round up to the end
        return drawn[torch.randperm(count, generator=generator)]
