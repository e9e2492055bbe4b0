"""Loaded models: bytes of images in, float32 logits out, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from torch import nn

from mining.exceptions import BadCheckpoint
from mining.threads import plan_threads
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


def _check_logits(
    logits: torch.Tensor, *, batch: int, n_classes: int, url: str
) -> None:
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
    """Runs a torch module, in channels-last layout and inference mode."""

    def __init__(
        self,
        model: nn.Module,
        spec: ModelSpec,
        *,
        url: str,
        device: torch.device,
        precision: Precision = "auto",
    ) -> None:
        self.n_classes = len(spec.classes)
        self.device = device
        self._url = url
        self._model = model.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks memory_format with a device
        self._normalise = Normaliser(spec.preprocessing, device)
        self._dtype = resolve_precision(precision, device)

    @torch.inference_mode()
    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits float32 (B, K) on the CPU for images uint8 (B, C, H, W)."""
        x = self._normalise(batch).contiguous(memory_format=torch.channels_last)
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
        _check_logits(logits, batch=len(batch), n_classes=self.n_classes, url=self._url)
        return logits


class OnnxPredictor:
    """Runs an ONNX graph with one float32 image input; its first output is the logits.

    The file's bytes are handed over, so a graph cannot pull in files beside it. A graph
    with a fixed batch size is fed that many images, the last batch padded with zeros.
    """

    def __init__(
        self, data: bytes, spec: ModelSpec, *, url: str, device: torch.device
    ) -> None:
        self.n_classes = len(spec.classes)
        self.device = device
        self._url = url
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = plan_threads(device=device.type).intra_op
        options.log_severity_level = 4  # what fails is raised as well
        wanted = ["CPUExecutionProvider"]
        if device.type == "cuda":
            wanted.insert(0, "CUDAExecutionProvider")
        there = onnxruntime.get_available_providers()
        self._session: Any = onnxruntime.InferenceSession(
            data, options, providers=[name for name in wanted if name in there]
        )
        inputs = self._session.get_inputs()
        if (
            len(inputs) != 1
            or inputs[0].type != "tensor(float)"
            or len(inputs[0].shape) != 4
        ):
            found = ", ".join(
                f"{item.name} {item.type} {item.shape}" for item in inputs
            )
            raise BadCheckpoint(
                f"{url} must have one float32 input (batch, channels, height, width);"
                f" it has: {found or 'none'}."
            )
        self._input: str = inputs[0].name
        size = inputs[0].shape[0]
        self._fixed_batch = size if isinstance(size, int) else None
        self._normalise = Normaliser(spec.preprocessing, torch.device("cpu"))

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return logits float32 (B, K) on the CPU for images uint8 (B, C, H, W)."""
        x = self._normalise(batch).numpy()
        step = self._fixed_batch or len(x)
        try:
            parts = [
                self._run(x[start : start + step]) for start in range(0, len(x), step)
            ]
        except ONNX_ERRORS as error:
            raise BadCheckpoint(
                f"{self._url} cannot take images of shape {tuple(batch.shape[1:])}:"
                f" {error}"
            ) from error
        logits = torch.from_numpy(np.concatenate(parts)).float()
        _check_logits(logits, batch=len(batch), n_classes=self.n_classes, url=self._url)
        return logits

    def _run(self, x: np.ndarray[Any, np.dtype[np.float32]]) -> Any:
        missing = (self._fixed_batch or len(x)) - len(x)
        if missing:
            x = np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)])
        output = self._session.run(None, {self._input: x})[0]
        return output[: len(output) - missing] if missing else output


_onnx_state: Any = onnxruntime.capi.onnxruntime_pybind11_state
# onnxruntime's errors share no base class but Exception.
ONNX_ERRORS: tuple[type[Exception], ...] = (
    _onnx_state.EPFail,
    _onnx_state.Fail,
    _onnx_state.InvalidArgument,
    _onnx_state.InvalidGraph,
    _onnx_state.InvalidProtobuf,
    _onnx_state.NoSuchFile,
    _onnx_state.NotImplemented,
    _onnx_state.RuntimeException,
)
