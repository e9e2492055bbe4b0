from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from torch import distributed, multiprocessing

from mining.training.datasets import FixSetDataset
from mining.training.sampler import RecipeSampler
from tests.mining.training.recipes import recipe, sample

KEYS = [f"cat/{i}.png" for i in range(10)]


def data(*samples, count=10):
    pairs = [(key, 0) for key in KEYS[:count]]
    return FixSetDataset(
        pairs, recipe(*samples), key=KEYS.__getitem__, classes=("cat",)
    )


HARD = (sample(KEYS[0], weight=4.0), sample(KEYS[1], repeat=2, weight=1.5))
EVEN = (*HARD, sample(KEYS[2], repeat=2))  # 12 items for two ranks


def test_equal_weights_are_a_shuffle_of_every_item_once():
    drawn = list(RecipeSampler(data()))
    assert sorted(drawn) == list(range(10))
    assert drawn != list(range(10))


def test_each_item_comes_as_often_as_its_weight_says_up_to_one():
    # Weights 4, 1.5, 1.5 and 8 of 1 sum to 15; an epoch is 11 items.
    sampler = RecipeSampler(data(*HARD), seed=3)
    total = Counter()
    for epoch in range(150):
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert len(drawn) == len(sampler) == 11
        counts = Counter(drawn)
        assert counts[0] in (2, 3)  # 4 * 11 / 15 = 2.93
        assert all(counts[item] <= 1 for item in range(3, 11))
        total += counts
    for item, weight in enumerate([4, 1.5, 1.5] + [1] * 8):
        expected = 150 * 11 * weight / 15
        assert total[item] == pytest.approx(expected, abs=0.15 * expected)


def test_seed_and_epoch_decide_the_draw_and_nothing_else():
    def draw(seed, epoch):
        sampler = RecipeSampler(data(*HARD), seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    before = torch.get_rng_state()
    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(2, 1) != draw(1, 1) != draw(1, 2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("world_size", [1, 2, 3, 11])
def test_the_ranks_share_one_draw_equally(world_size):
    ranks = [
        list(RecipeSampler(data(*HARD), rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    count = -(-11 // world_size)
    assert {len(rank) for rank in ranks} == {count}
    union = Counter(item for rank in ranks for item in rank)
    fair = 4 * count * world_size / 15
    assert abs(union[0] - fair) < 1


def _rank(rank, place):
    """Draw three epochs as one of two processes and write what all of them drew."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2
    )
    sampler = RecipeSampler(data(*EVEN), seed=5)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        gathered = [None, None]
        distributed.all_gather_object(gathered, list(sampler))
        epochs.append(gathered)
    if rank == 0:
        (place / "drawn.json").write_text(json.dumps(epochs))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_together_draw_what_one_draws_alone(tmp_path):
    multiprocessing.spawn(_rank, (tmp_path,), nprocs=2)
    alone = RecipeSampler(data(*EVEN), seed=5, rank=0, world_size=1)
    epochs = json.loads((tmp_path / "drawn.json").read_text())
    assert len(epochs) == 3
    for epoch, (first, second) in enumerate(epochs):
        alone.set_epoch(epoch)
        together = [item for pair in zip(first, second, strict=True) for item in pair]
        assert together == list(alone)
        assert len(together) == 12


def test_it_refuses_an_empty_data_set_and_numbers_out_of_range():
    with pytest.raises(ValueError, match="empty"):
        RecipeSampler(data(sample(KEYS[0], role="drop"), count=1))
    with pytest.raises(ValueError, match="rank"):
        RecipeSampler(data(), rank=2, world_size=2)
    with pytest.raises(ValueError, match="seed"):
        RecipeSampler(data(), seed=-1)
    with pytest.raises(ValueError, match="epoch"):
        RecipeSampler(data()).set_epoch(-1)
