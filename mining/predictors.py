"""Loaded models: bytes of images in, float32 logits out, whatever the format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from mining.exceptions import BadCheckpoint
from mining.fusing import fused, lowered
from mining.types import Device, ModelSpec, Precision, Preprocessing

Pending = Callable[[], torch.Tensor]
Network = Callable[[torch.Tensor], Any]

_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")
_CPUINFO = Path("/proc/cpuinfo")
_TYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(slots=True)
class Found:
    """What was found out about a model on this machine while it ran.

    Attributes:
        batch_size: A good batch size; None when not measured.
        batch_limit: Images that fit where more ran out of memory; None when nothing did.
        decode: Where JPEGs are decoded faster; None when not measured.
    """

    batch_size: int | None = None
    batch_limit: int | None = None
    decode: Literal["cpu", "gpu"] | None = None


class Predictor(Protocol):
    """A model ready to classify; several threads may call it at once.

    Attributes:
        n_classes: K, the width of the logits.
        device: Where it runs.
        precision: The name of the type it computes in.
        rounding: The type's relative rounding error; 0 when `exact` gives nothing better.
        found: Filled in by those who run it.
    """

    n_classes: int
    device: torch.device
    precision: str
    rounding: float
    found: Found

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits float32 (B, K) on the CPU for images uint8 (B, C, H, W).

        Raises:
            BadCheckpoint: The model cannot take the batch or gives another width.
        """
        ...

    def start(self, batch: torch.Tensor) -> Pending:
        """Begin as `__call__`, and return a function that waits for the logits."""
        ...

    def exact(self, batch: torch.Tensor) -> torch.Tensor:
        """Return what `__call__` does, computed in float32."""
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
    return _TYPES[precision]


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch's own check also passes where bfloat16 is emulated and slower than float32.
    text = _CPUINFO.read_text(errors="replace") if _CPUINFO.exists() else ""
    return any(flag in text for flag in _FAST_BFLOAT16)


class Normaliser:
    """Turns bytes into normalised floats with one multiplication and one addition."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        mean = torch.tensor(preprocessing.mean, device=device)
        std = torch.tensor(preprocessing.std, device=device)
        self._scale = 1 / (255 * std)
        self._shift = -mean / std

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, C, H, W), channels last, of uint8 (B, C, H, W)."""
        moved = batch.to(self._scale.device, non_blocking=True).permute(0, 2, 3, 1)
        # Whole rows of pixels: three channels at a time are no vector, and took thrice
        # as long.
        scale, shift = (v.repeat(moved.shape[2]) for v in (self._scale, self._shift))
        found = torch.addcmul(shift, moved.flatten(2).float(), scale)  # (B, H, W * C)
        return found.view(moved.shape).permute(0, 3, 1, 2)


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

    Convolutions do the work of the batch norms after them. Below float32, a copy with
    weights of the shorter type runs; a network that cannot be converted runs under
    autocast. The float32 network is kept for `exact`.
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
        compile_model: bool = False,
    ) -> None:
        """Prepare a model.

        Args:
            model: The network, float32.
            spec: What `mining.specs.read_spec` gives for it.
            url: Of its file, for messages.
            device: Where to run.
            precision: What to compute in.
            layout: Convolutions are fastest in channels-last layout; a graph that was
                exported from contiguous tensors may not take another one.
            compile_model: Whether torch.compile optimises it.
        """
        self.n_classes = len(spec.classes)
        self.device = device
        self.found = Found()
        self._url = url
        self._layout = layout
        model.eval().requires_grad_(requires_grad=False)
        model = model.to(device, memory_format=layout)  # type: ignore[call-overload]  # its stub lacks memory_format with a device
        self._normalise = Normaliser(spec.preprocessing, device)
        probe = self._probe(spec.preprocessing)
        self._exact = fused(model, probe)
        dtype = resolve_precision(precision, device)
        self.precision = str(dtype).removeprefix("torch.")
        self.rounding = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2
        self._dtype = dtype
        self._fast = lowered(self._exact, dtype, probe) if self.rounding else None
        self._run: Network = self._exact if self._fast is None else self._fast
        if compile_model:
            self._run = torch.compile(self._run)

    def _probe(self, preprocessing: Preprocessing) -> torch.Tensor:
        """Return two normalised images of noise."""
        shape = (2, preprocessing.channels, *preprocessing.crop)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return self._normalise(noise).contiguous(memory_format=self._layout)

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits float32 (B, K) on the CPU for images uint8 (B, C, H, W)."""
        return self.start(batch)()

    def start(self, batch: torch.Tensor) -> Pending:
        """Begin as `__call__`, and return a function that waits for the logits.

        On a GPU nothing waits here; a pinned `batch` may be written to again once the
        logits are there.
        """
        return self._waiting(self._forward(self._run, batch, self._dtype), len(batch))

    def exact(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K) as `__call__` does, computed in float32."""
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            logits = self._forward(self._exact, batch, torch.float32)
        return self._waiting(logits, len(batch))()

    @torch.inference_mode()
    def _forward(
        self, model: Network, batch: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        x = self._normalise(batch).contiguous(memory_format=self._layout)
        converted = self._fast is not None and dtype != torch.float32
        autocast = dtype != torch.float32 and not converted
        try:
            with torch.autocast(self.device.type, dtype, enabled=autocast):
                output = model(x.to(dtype) if converted else x)
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
        # From a GPU into pinned memory, without waiting for it.
        return output.float().to("cpu", non_blocking=True)

    def _waiting(self, logits: torch.Tensor, batch: int) -> Pending:
        on_gpu = self.device.type == "cuda"
        done = torch.cuda.current_stream().record_event() if on_gpu else None

        def wait() -> torch.Tensor:
            if done is not None:
                done.synchronize()
            check_logits(logits, batch=batch, n_classes=self.n_classes, url=self._url)
            return logits

        return wait
