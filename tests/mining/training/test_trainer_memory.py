"""Batches that do not fit into memory: smaller parts, the same training."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import nn

from mining.exceptions import MiningError
from mining.training import trainer
from mining.training.loop import Loop
from tests.mining.training.farm import QUICK, make_farm, recipe


@pytest.fixture
def farm(tmp_path):
    return make_farm(tmp_path)


class Plain(nn.Sequential):
    """A network without statistics of a batch, whose gradients so add up exactly."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 3))
        nn.init.zeros_(self[1].weight)
        nn.init.zeros_(self[1].bias)


@pytest.fixture
def narrow(monkeypatch):
    """Return what leaves memory for three images from then on."""
    logits = Loop._logits

    def few(self, part):
        if len(part) > 3:
            raise torch.OutOfMemoryError
        return logits(self, part)

    return lambda: monkeypatch.setattr(Loop, "_logits", few)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "hard_examples"])
def test_a_batch_that_does_not_fit_is_halved_with_the_same_gradients(
    farm, monkeypatch, narrow, loss
):
    monkeypatch.setattr(trainer, "load_network", lambda *_: Plain())
    keys = [item.key for item in farm.samples("train")]
    asked = recipe(farm.line(keys[0]), class_weights={"cat": 0.2, "owl": 2.0})
    settings = replace(QUICK, epochs=2, loss=loss, precision="float32")
    assert farm.retrain(settings, recipe=asked).batch_size == 8
    whole = safetensors.torch.load(farm.out.read_bytes())
    farm.state.forget()
    narrow()
    assert farm.retrain(settings, recipe=asked).batch_size == 2
    for name, value in safetensors.torch.load(farm.out.read_bytes()).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-6)


def test_looking_for_the_hardest_of_a_split_batch_leaves_no_trace_in_the_norms(
    farm, monkeypatch, narrow
):
    norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))
    monkeypatch.setattr(trainer, "load_network", lambda *_: deepcopy(norm))
    narrow()
    seen = []
    for loss in ("cross_entropy", "hard_examples"):
        farm.retrain(replace(QUICK, epochs=1, batch_size=21, loss=loss))
        weights = safetensors.torch.load(farm.out.read_bytes())
        names = ("1.running_mean", "1.running_var", "1.num_batches_tracked")
        seen.append([weights[name] for name in names])
        farm.state.forget()
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)
    assert seen[0][2] == 7  # parts


def test_it_gives_up_when_not_even_one_image_fits(farm, monkeypatch):
    def full(self, part):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Loop, "_logits", full)
    with pytest.raises(MiningError, match="memory does not hold"):
        farm.retrain()
    assert not farm.out.exists()
