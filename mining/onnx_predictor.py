"""Models in ONNX files; apart, so that onnxruntime is imported for them only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch

from mining.exceptions import BadCheckpoint
from mining.predictors import Found, Normaliser, Pending, check_logits
from mining.threads import plan_threads
from mining.types import ModelSpec


class OnnxPredictor:
    """Runs an ONNX graph with one float32 image input; its first output is the logits.

    The file's bytes are handed over, so a graph cannot pull in files beside it. A graph
    with a fixed batch size is fed that many images, the last batch padded with zeros. A
    session may be run by several threads at once.
    """

    precision = "float32"
    rounding = 0.0

    def __init__(
        self, data: bytes, spec: ModelSpec, *, url: str, device: torch.device
    ) -> None:
        self.n_classes = len(spec.classes)
        self.device = device
        self.found = Found()
        self._url = url
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = plan_threads().intra_op
        options.inter_op_num_threads = 1
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
        x = self._normalise(batch).contiguous().numpy()
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
        check_logits(logits, batch=len(batch), n_classes=self.n_classes, url=self._url)
        return logits

    def start(self, batch: torch.Tensor) -> Pending:
        """Return a function that gives the logits, which onnxruntime computes at once."""
        logits = self(batch)
        return lambda: logits

    def exact(self, batch: torch.Tensor) -> torch.Tensor:
        """Return what `__call__` does: the graph has its own types."""
        return self(batch)

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
