from __future__ import annotations

import numpy as np
import pytest

from mining.lookalikes import MOST, lookalikes


def digests(n: int) -> list[str]:
    return [f"{i:064x}" for i in range(n)]


def triples(pairs) -> list[tuple[int, int, int]]:
    columns = (pairs.first, pairs.second, pairs.distance)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def flipped(value: int, bits) -> int:
    for bit in bits:
        value ^= 1 << int(bit)
    return value - 2**64 if value >= 2**63 else value


def test_four_bits_are_near_and_five_are_not():
    base = 0x0123456789ABCDEF
    for n, expected in ((0, [(0, 1, 0)]), (4, [(0, 1, 4)]), (5, [])):
        other = flipped(base, range(3, 63, 60 // max(n, 1))[:n])
        assert triples(lookalikes(digests(2), [base, other])) == expected


def test_it_finds_what_comparing_all_with_all_finds():
    rng = np.random.default_rng(1)
    centres = rng.integers(0, 2**63, 150).tolist()
    hashes = [
        flipped(centre, rng.choice(64, rng.integers(0, 5), replace=False))
        for centre in centres
        for _ in range(8)
    ]
    bits = np.array(hashes).view(np.uint64)
    apart = np.bitwise_count(bits[:, None] ^ bits[None])
    one, other = np.nonzero(np.triu(apart <= 4, 1))
    expected = sorted(
        zip(one.tolist(), other.tolist(), apart[one, other].tolist(), strict=True)
    )
    assert len(expected) > 1000
    assert triples(lookalikes(digests(len(hashes)), hashes)) == expected


def test_equal_bytes_are_at_no_distance_with_or_without_a_hash():
    found = lookalikes(["a", "b", "a", "a"], [7, None, None, 0b1000])
    assert triples(found) == [(0, 2, 0), (0, 3, 0), (2, 3, 0)]


def test_a_hash_that_a_crowd_shares_tells_nothing():
    assert len(lookalikes(digests(100), [5] * 100)) > 0
    assert len(lookalikes(digests(101), [5] * 101)) == 0
    # Copies of one file are no crowd.
    assert len(lookalikes(["a"] * 101, [5] * 101)) > 0


def test_an_image_is_in_a_bounded_number_of_pairs():
    found = lookalikes(["same"] * 500, [None] * 500)
    counts = np.bincount(np.concatenate([found.first, found.second]))
    assert counts.max() == MOST
    assert counts.min() >= MOST // 2


def test_the_nearest_are_kept():
    base = 2**40 + 12345
    far = [flipped(base, [n, n + 20, n + 30]) for n in range(MOST)]
    hashes = [base, *far, flipped(base, [50])]
    found = triples(lookalikes(digests(len(hashes)), hashes))
    assert (0, len(hashes) - 1, 1) in found
    assert sum(one == 0 for one, _, _ in found) == MOST


def test_images_of_another_brightness_or_contrast_are_no_pair():
    tones = [(0.5, 0.25), (0.515, 0.235), (0.525, 0.25), (0.5, 0.275), (np.nan, 0.25)]
    found = lookalikes(digests(5), [7] * 5, tones)
    assert triples(found) == [(0, 1, 0), (1, 2, 0)]
    copies = lookalikes(["a", "a"], [7, 7], [(0.5, 0.25), (np.nan, np.nan)])
    assert triples(copies) == [(0, 1, 0)]


@pytest.mark.parametrize("hashes", [[], [1], [None, None]])
def test_few_or_no_hashes_make_no_pairs(hashes):
    assert len(lookalikes(digests(len(hashes)), hashes)) == 0


def test_lists_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match="1 digests and 2 hashes"):
        lookalikes(["a"], [1, 2])
