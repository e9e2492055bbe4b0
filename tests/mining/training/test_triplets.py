from __future__ import annotations

import math

import pytest
import torch

from mining.training.triplets import mine_triplets


def on_circle(*degrees):
    """Return points on the unit circle (N, 2): chords grow with the angle between."""
    angles = [math.radians(degree) for degree in degrees]
    return torch.tensor([[math.cos(a), math.sin(a)] for a in angles])


POINTS = on_circle(0, 9, 20, 50, 60)
LABELS = torch.tensor([0, 1, 0, 1, 0])


def triples(found):
    return set(zip(*(part.tolist() for part in found), strict=True))


def test_batch_hard_takes_the_farthest_positive_and_the_nearest_negative():
    assert triples(mine_triplets(POINTS, LABELS)) == {
        (0, 4, 1), (1, 3, 0), (2, 4, 1), (3, 1, 4), (4, 0, 3),
    }  # fmt: skip


def test_semi_hard_negatives_are_farther_than_the_positive_within_the_margin():
    points = on_circle(0, 20, 25, 90)
    labels = torch.tensor([0, 0, 1, 1])
    found = triples(mine_triplets(points, labels, kind="semi_hard", margin=0.2))
    assert found == {(0, 1, 2), (3, 2, 1)}  # chords 0.35, 0.43 and 1.07, 1.15


def test_a_sample_to_ignore_is_in_no_triplet():
    ignore = torch.tensor([False, True, False, False, False])
    found = triples(mine_triplets(POINTS, LABELS, ignore=ignore))
    assert found == {(0, 4, 3), (2, 4, 3), (4, 0, 3)}


def test_it_refuses_an_unknown_kind_and_no_margin():
    with pytest.raises(ValueError, match="batch_hard, semi_hard"):
        mine_triplets(POINTS, LABELS, kind="easy")
    with pytest.raises(ValueError, match="margin"):
        mine_triplets(POINTS, LABELS, margin=0)
