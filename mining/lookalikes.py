"""Find images that are nearly the same, by digests and perceptual hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints: TypeAlias = npt.NDArray[np.int64]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Floats: TypeAlias = npt.NDArray[np.float64]

WITHIN: Final = 4  # bits of 64
MOST: Final = 20  # of one image
# Two hashes that differ in 4 bits agree in 2 of any 6 pieces at least.
_PIECES: Final = WITHIN + 2
_TONE: Final = 0.02  # of brightness and contrast
_WINDOW: Final = 200  # neighbours that a row is compared with where pieces agree
_ENOUGH: Final = 4 * MOST  # found pairs, after which a row looks no further
_CROWD: Final = 100  # different images with one hash: it tells nothing


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of images that look alike; each pair once.

    Attributes:
        first: int64 (P,), position of one.
        second: int64 (P,), position of the other, above `first`.
        distance: int64 (P,), bits in which the hashes differ, 0-4; 0 for equal bytes.
    """

    first: Ints
    second: Ints
    distance: Ints

    def __len__(self) -> int:
        return len(self.first)


def lookalikes(
    digests: Sequence[str],
    hashes: Sequence[int | None],
    tones: npt.ArrayLike | None = None,
) -> Pairs:
    """Find the pairs of images with equal bytes, or hashes that differ in 4 bits at most.

    A hash sees shapes only: a white pullover has that of a grey one. So images whose
    brightness or contrast differ by more than 0.02 are no pair, either; of a picture
    stored again at another size or quality they differ by less.

    An image is in 20 pairs at most, the nearest. In a crowd of images that are all alike
    some pairs are left out. A hash that more than 100 different images share tells nothing
    and pairs nothing.

    Args:
        digests: N digests of the files.
        hashes: N perceptual hashes, 64 bits as signed numbers; None: the image has none.
        tones: float (N, 2), brightness and contrast, 0-1; None: they are not compared.

    Returns:
        Sorted by `first`, then `second`.

    >>> pairs = lookalikes(["a", "b", "b", "c"], [0b111, None, None, 0b100])
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist()
    ([0, 1], [3, 2], [2, 0])
    """
    if len(digests) != len(hashes):
        raise ValueError(f"{len(digests)} digests and {len(hashes)} hashes")
    encoded = pa.array(digests, pa.string()).dictionary_encode()
    files = encoded.indices.to_numpy().astype(np.int64)
    looks = pa.array(hashes, pa.int64())
    hashed = np.flatnonzero(looks.is_valid())
    known = looks.drop_null().to_numpy().view(np.uint64)
    telling = _telling(known, files[hashed])
    rows = hashed[telling]
    shown = np.zeros((len(files), 2)) if tones is None else np.asarray(tones, float)
    found = [_same(files), *_near(known[telling], rows, shown[rows])]
    return _nearest(_joined(found, files), len(files))


def _telling(hashes: Hashes, files: Ints) -> npt.NDArray[np.bool_]:
    """Tell which hashes are shared by few different files, bool (N,)."""
    _, which = np.unique(hashes, return_inverse=True)
    different = np.unique(np.stack([which, files]), axis=1)[0]
    return np.bincount(different, minlength=1)[which] <= _CROWD


def _same(files: Ints) -> Pairs:
    order = np.argsort(files, kind="stable")
    left, right = _window(files[order], MOST)
    return Pairs(order[left], order[right], np.zeros(len(left), np.int64))


def _near(hashes: Hashes, rows: Ints, tones: Floats) -> list[Pairs]:
    """Return pairs of rows that are near, some of them several times."""
    counts = np.zeros(len(hashes), np.int64)
    return [
        _near_where(hashes, rows, tones, mask, counts)
        for mask in map(_mask, combinations(range(_PIECES), _PIECES - WITHIN))
    ]


def _mask(pieces: Sequence[int]) -> np.uint64:
    """Return the bits of some of the pieces of a hash."""
    edges = [64 * n // _PIECES for n in range(_PIECES + 1)]
    bits = sum((1 << edges[n + 1]) - (1 << edges[n]) for n in pieces)
    return np.uint64(bits)


def _near_where(
    hashes: Hashes, rows: Ints, tones: Floats, mask: np.uint64, counts: Ints
) -> Pairs:
    """Return the near pairs among hashes that agree in the mask; add to the counts."""
    keys = hashes & mask
    order = np.lexsort((rows, hashes, keys))
    keys, sorted_hashes = keys[order], hashes[order]
    found: list[tuple[Ints, Ints, Ints]] = []
    left = np.arange(len(keys))
    for step in range(1, _WINDOW + 1):
        left = left[left + step < len(keys)]
        # Sorted: who has no neighbour at this distance has none farther away.
        left = left[(keys[left] == keys[left + step]) & (counts[order[left]] < _ENOUGH)]
        if not len(left):
            break
        right = left + step
        distance = np.bitwise_count(sorted_hashes[left] ^ sorted_hashes[right])
        near = np.flatnonzero(distance <= WITHIN)
        one, other = order[left[near]], order[right[near]]
        alike = (np.abs(tones[one] - tones[other]) <= _TONE).all(axis=1)
        one, other, near = one[alike], other[alike], near[alike]
        np.add.at(counts, one, 1)
        np.add.at(counts, other, 1)
        found.append((rows[one], rows[other], distance[near].astype(np.int64)))
    return Pairs(*(_concatenated([part[n] for part in found]) for n in range(3)))


def _window(keys: Ints, most: int) -> tuple[Ints, Ints]:
    """Return the places of equal keys that are up to `most` apart; keys are sorted."""
    lefts, rights = [], []
    left = np.arange(len(keys))
    for step in range(1, most + 1):
        left = left[left + step < len(keys)]
        left = left[keys[left] == keys[left + step]]
        lefts.append(left)
        rights.append(left + step)
    return _concatenated(lefts), _concatenated(rights)


def _joined(parts: Sequence[Pairs], files: Ints) -> Pairs:
    """Return each pair of the parts once, the lower row first."""
    one = _concatenated([part.first for part in parts])
    other = _concatenated([part.second for part in parts])
    distance = _concatenated([part.distance for part in parts])
    low, high = np.minimum(one, other), np.maximum(one, other)
    _, places = np.unique(low * len(files) + high, return_index=True)
    low, high = low[places], high[places]
    return Pairs(low, high, np.where(files[low] == files[high], 0, distance[places]))


def _nearest(pairs: Pairs, n: int) -> Pairs:
    """Leave out what is not among the nearest of both of its images."""
    sides = np.concatenate([pairs.first, pairs.second])
    # Of equals the next ones, so that both choose each other.
    apart = np.tile(pairs.second - pairs.first, 2)
    order = np.lexsort((apart, np.tile(pairs.distance, 2), sides))
    starts = np.searchsorted(sides[order], np.arange(n))
    places = np.empty(len(sides), np.int64)  # of each pair among those of one side
    places[order] = np.arange(len(sides)) - starts[sides[order]]
    keep = (places.reshape(2, -1) < MOST).all(axis=0)
    return Pairs(pairs.first[keep], pairs.second[keep], pairs.distance[keep])


def _concatenated(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *parts])
