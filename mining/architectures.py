"""The networks that a state dict can be loaded into: torchvision's and two of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import torch
from torch import nn
from torch.nn import functional

from mining.exceptions import BadCheckpoint

_TORCHVISION: Final = "torchvision:"
_BN_EPS: Final = 1e-3
# repeats, kernel, stride, expansion, channels in, channels out
_LITE0_STAGES: Final = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: an odd pixel goes right and below.

    EfficientNet-Lite was trained with this padding; with the symmetric one the published
    weights still work, but on shifted grids.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(
            inputs, outputs, kernel, stride, padding, groups=groups, bias=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        if stride > 1:
            sides = []
            for size in (x.shape[-1], x.shape[-2]):
                pad = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                sides += [pad // 2, pad - pad // 2]
            x = functional.pad(x, sides)
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_BN_EPS)


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project back; add the input where shapes allow."""

    def __init__(
        self, *, kernel: int, stride: int, expansion: int, inputs: int, outputs: int
    ) -> None:
        super().__init__()
        middle = inputs * expansion
        self._expands = expansion > 1
        self._adds = stride == 1 and inputs == outputs
        if self._expands:
            self._expand_conv = _SameConv(inputs, middle, 1)
            self._bn0 = _norm(middle)
        self._depthwise_conv = _SameConv(
            middle, middle, kernel, stride=stride, groups=middle
        )
        self._bn1 = _norm(middle)
        self._project_conv = _SameConv(middle, outputs, 1)
        self._bn2 = _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x
        if self._expands:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._adds else y


class Embedder(nn.Module):
    """A classifier that can also give the features before its last layer."""

    feature_size: int

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return features (B, feature_size) of normalised images (B, C, H, W)."""
        raise NotImplementedError


class EfficientNetLite0(Embedder):
    """EfficientNet-Lite0: no squeeze-and-excite, ReLU6, stem 32 and head 1280 fixed.

    Parameter names are those of the published PyTorch file, which wants 224 x 224 RGB with
    mean 0.498 and standard deviation 0.502 (127 and 128 of 255).
    """

    feature_size = 1280

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList(
            _InvertedResidual(
                kernel=kernel,
                stride=stride if index == 0 else 1,
                expansion=expansion,
                inputs=inputs if index == 0 else outputs,
                outputs=outputs,
            )
            for repeats, kernel, stride, expansion, inputs, outputs in _LITE0_STAGES
            for index in range(repeats)
        )
        self._conv_head = _SameConv(320, self.feature_size, 1)
        self._bn1 = _norm(self.feature_size)
        self._fc = nn.Linear(self.feature_size, n_classes)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return features (B, 1280) of normalised RGB images (B, 3, H, W)."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return x.mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K)."""
        return cast("torch.Tensor", self._fc(self.embed(x)))


class SmallCnn(Embedder):
    """Three convolutions for 28 x 28 grey images; about 100,000 parameters."""

    feature_size = 128

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 32), (32, 64), (64, self.feature_size)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(self.feature_size, n_classes)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return features (B, 128) of normalised grey images (B, 1, H, W)."""
        return cast("torch.Tensor", self.features(x).mean((2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K)."""
        return cast("torch.Tensor", self.head(self.embed(x)))


BUILDERS: Final[dict[str, Callable[[int], Embedder]]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "small_cnn": SmallCnn,
}


def build(architecture: str, n_classes: int) -> nn.Module:
    """Build a network with random weights; only listed names, never an import path.

    Args:
        architecture: A key of `BUILDERS` or `torchvision:<name>`.
        n_classes: Width K of the output; logits are (B, K).

    Raises:
        BadCheckpoint: The architecture is not known.
    """
    if architecture in BUILDERS:
        return BUILDERS[architecture](n_classes)
    name = architecture.removeprefix(_TORCHVISION)
    if name != architecture:
        from torchvision import models  # noqa: PLC0415 (takes seconds to import)

        if name in models.list_models(module=models):
            model = models.get_model(name, weights=None, num_classes=n_classes)
            return cast("nn.Module", model)
    raise BadCheckpoint(
        f"The architecture {architecture!r} is not known. Give one of"
        f" {', '.join(BUILDERS)} or torchvision:<name>, such as torchvision:resnet18."
    )
