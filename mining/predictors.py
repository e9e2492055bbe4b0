"""Loaded models: bytes of images in, float32 logits out, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from mining.exceptions import BadCheckpoint
from mining.types import Device, ModelSpec, Precision, Preprocessing

_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
_CPUINFO = Path("/proc/cpuinfo")


class Predictor(Protocol):
    """A model ready to classify."""

    @property
    def n_classes(self) -> int:
        """Return K, the width of the logits."""
        ...

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits float32 (B, K) on the CPU for images uint8 (B, C, H, W).

        Raises:
            BadCheckpoint: The model cannot take the batch or gives another width.
        """
        ...


def resolve_device(device: Device) -> torch.device:
    """Return the device to use; "auto" takes cuda where there is one.

    Raises:
        BadCheckpoint: cuda was asked for and this machine has none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BadCheckpoint("The scan asks for a GPU, but this worker has none.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type to compute in; "auto" takes bfloat16 where the hardware is fast."""
    if precision == "auto":
        return torch.bfloat16 if _has_fast_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch's own check also passes where bfloat16 is emulated and slower than float32.
    text = _CPUINFO.read_text(errors="replace") if _CPUINFO.exists() else ""
    return any(flag in text for flag in _FAST_BFLOAT16)


class Normaliser:
    """Turns bytes into normalised floats with one multiplication and one addition."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        mean = torch.tensor(preprocessing.mean, device=device).view(1, -1, 1, 1)
        std = torch.tensor(preprocessing.std, device=device).view(1, -1, 1, 1)
        self._scale = 1 / (255 * std)
        self._shift = -mean / std

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, C, H, W) of uint8 (B, C, H, W)."""
        moved = batch.to(self._scale.device, non_blocking=True)
        return moved.float().mul_(self._scale).add_(self._shift)


def check_logits(logits: torch.Tensor, *, batch: int, n_classes: int, url: str) -> None:
    """Check that an output is logits (batch, n_classes).

    Raises:
        BadCheckpoint: It has another shape or is made of probabilities.
    """
    if logits.shape != (batch, n_classes):
        raise BadCheckpoint(
            f"{url} gives an output of shape {tuple(logits.shape)} for {batch} images;"
            f" its spec lists {n_classes} classes, so ({batch}, {n_classes}) is expected."
        )
    # Logits are all but never positive with a sum of exactly one.
    if n_classes > 1 and bool((logits >= 0).all()):
        sums = logits.sum(1)
        if torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            raise BadCheckpoint(
                f"{url} gives probabilities, not logits. Save the model without its"
                " softmax; otherwise every probability would be wrong."
            )


class TorchPredictor:
    """Runs a torch module in inference mode.

    Convolutions are fastest in channels-last layout; a graph that was exported from
    contiguous tensors may not take another one.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: ModelSpec,
        *,
        url: str,
        device: torch.device,
        precision: Precision = "auto",
        layout: torch.memory_format = torch.channels_last,
    ) -> None:
        self.n_classes = len(spec.classes)
        self.device = device
        self._url = url
        self._layout = layout
        self._model = model.eval().to(device, memory_format=layout)  # type: ignore[call-overload]  # its stub lacks memory_format with a device
        self._normalise = Normaliser(spec.preprocessing, device)
        self._dtype = resolve_precision(precision, device)

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits float32 (B, K) on the CPU for images uint8 (B, C, H, W)."""
        x = self._normalise(batch).contiguous(memory_format=self._layout)
        low = self._dtype != torch.float32
        try:
            with torch.autocast(self.device.type, self._dtype, enabled=low):
                output = self._model(x)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise BadCheckpoint(
                f"{self._url} cannot take images of shape {tuple(batch.shape[1:])}:"
                f" {error}"
            ) from error
        if not isinstance(output, torch.Tensor):
            kind = type(output).__name__
            raise BadCheckpoint(
                f"{self._url} gives a {kind}, not one tensor of logits."
            )
        logits = output.float().cpu()
        check_logits(logits, batch=len(batch), n_classes=self.n_classes, url=self._url)
        return logits
