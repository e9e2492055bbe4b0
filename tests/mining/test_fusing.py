from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mining.architectures import build
from mining.fusing import fused, lowered
from tests.mining.models import small_cnn


def with_statistics(name: str) -> nn.Module:
    """Return a network whose norms do something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = build(name, 5)
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.running_mean, -0.2, 0.2)
                nn.init.uniform_(part.running_var, 0.5, 2)
                nn.init.uniform_(part.weight, 0.5, 2)
                nn.init.uniform_(part.bias, -0.2, 0.2)
    return model.eval()


@pytest.mark.parametrize(
    "name",
    ["torchvision:resnet18", "torchvision:mobilenet_v3_small", "efficientnet_lite0"],
)
def test_norms_are_folded_into_convolutions(name):
    model = with_statistics(name)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = fused(model, x)
    assert not [part for part in found.modules() if isinstance(part, nn.BatchNorm2d)]
    with torch.inference_mode():
        wanted = model(x)
        spread = wanted.max() - wanted.min()
        assert (found(x) - wanted).abs().max() < 1e-5 * spread
    assert [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]


class Branches(nn.Module):
    """Cannot be traced: what it does depends on the pixels."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

    def forward(self, x):
        x = self.norm(self.conv(x))
        return (x if x.sum() > 0 else -x).mean((2, 3))


class Shared(nn.Module):
    """The convolution's own output is used beside the norm's."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        nn.init.constant_(self.norm.running_mean, 3)

    def forward(self, x):
        x = self.conv(x)
        return (self.norm(x) + x).mean((2, 3))


class Normless(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


@pytest.mark.parametrize("kind", [Branches, Shared, Normless])
def test_what_cannot_be_fused_comes_back_as_it_is(kind):
    model = kind().eval()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert fused(model, x) is model


def test_other_outputs_are_not_taken_for_the_networks_own(monkeypatch):
    def off_by_little(conv, norm):
        found = fuse_conv_bn_eval(conv, norm)
        found.bias.data *= 1.001
        return found

    model = with_statistics("torchvision:resnet18")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert fused(model, x) is not model
    monkeypatch.setattr("mining.fusing.fuse_conv_bn_eval", off_by_little)
    assert fused(model, x) is model


def test_a_batch_norm_that_is_used_twice_counts_for_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
            self.norm = nn.BatchNorm2d(1)
            nn.init.constant_(self.norm.running_mean, 0.5)

        def forward(self, x):
            return self.norm(self.conv(self.norm(self.conv(x)))).flatten(1)

    model = Twice().eval()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(fused(model, x)(x), model(x), atol=1e-4)


def test_a_copy_has_the_shorter_type():
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = small_cnn()
    found = lowered(model, torch.bfloat16, x)
    assert {part.dtype for part in found.parameters()} == {torch.bfloat16}
    assert {part.dtype for part in model.parameters()} == {torch.float32}


class Mixes(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        return self.head(x.flatten(1).float())


class Overflows(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] * 70_000


@pytest.mark.parametrize("kind", [Mixes, Overflows])
def test_there_is_no_copy_of_what_cannot_be_converted(kind):
    x = torch.full((2, 1, 8, 8), 2.0)
    assert lowered(kind().eval(), torch.float16, x) is None
