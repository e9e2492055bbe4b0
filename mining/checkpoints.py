"""Load checkpoint files as data: nothing in them is ever run as code."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from io import BytesIO

import safetensors
import safetensors.torch
import torch
from torch import nn

from mining.architectures import build
from mining.exceptions import SHOWN_PROBLEMS, BadCheckpoint
from mining.exported import load_exported
from mining.predictors import Predictor, TorchPredictor, resolve_device
from mining.sources.files import read_bytes
from mining.specs import check_classes, checkpoint_digest, read_spec, unseen, write_spec
from mining.types import Device, ModelSpec, Precision

__all__ = [
    "Predictor",
    "check_classes",
    "checkpoint_digest",
    "load_model",
    "load_network",
    "load_state_dict",
    "read_spec",
    "write_spec",
]

_WRAPPERS = ("state_dict", "model", "model_state_dict")


def load_model(
    url: str,
    spec: ModelSpec,
    *,
    device: Device = "auto",
    precision: Precision = "auto",
    compile_model: bool = False,
) -> Predictor:
    """Load a checkpoint for inference.

    A `torch_export` archive is read as data by `mining.archives` and its graph run operator
    by operator; `torch.export.load`, which can run code, is never called. It computes in
    the types it was exported with, whatever `precision` says. A batch that does not fit
    the exported size is split, and its last part padded.

    Args:
        url: Local path or fsspec URL of the file.
        spec: What `read_spec` gives for it.
        device: Where to run; "auto" takes cuda where there is one.
        precision: What to compute in; ONNX and exported graphs keep their own.
        compile_model: Whether torch.compile optimises it; not for these graphs either.

    Returns:
        A function of images uint8 (B, C, H, W) to logits float32 (B, K).

    Raises:
        BadCheckpoint: The file is missing, damaged, may not be opened or does not fit its
            spec; the message names it.
    """
    where = resolve_device(device)
    if spec.format == "onnx":
        return _load_onnx(url, spec, where)
    if spec.format == "torch_export":
        return TorchPredictor(
            load_exported(_read(url), url=url),
            spec,
            url=url,
            device=where,
            precision="float32",
            layout=torch.contiguous_format,
        )
    return TorchPredictor(
        load_network(url, spec),
        spec,
        url=url,
        device=where,
        precision=precision,
        compile_model=compile_model,
    )


def load_network(url: str, spec: ModelSpec) -> nn.Module:
    """Build the network of a safetensors or state-dict file and fill in its weights.

    Returns:
        The network on the CPU in float32, in training mode.

    Raises:
        BadCheckpoint: The file is missing, damaged, may not be opened or does not fit its
            spec; the message names it.
    """
    model = build(spec.architecture, len(spec.classes))
    _fill(model, load_state_dict(url, spec), url=url, spec=spec)
    return model


def _load_onnx(url: str, spec: ModelSpec, device: torch.device) -> Predictor:
    from mining.onnx_predictor import (  # noqa: PLC0415 (onnxruntime takes long to import)
        ONNX_ERRORS,
        OnnxPredictor,
    )

    try:
        return OnnxPredictor(_read(url), spec, url=url, device=device)
    except ONNX_ERRORS as error:
        raise BadCheckpoint(f"{url} is not a usable ONNX file: {error}") from error


def load_state_dict(url: str, spec: ModelSpec) -> dict[str, torch.Tensor]:
    """Read the weights of a safetensors or state-dict file by name.

    A state dict may be wrapped in {"state_dict": …} and its names may start with "module.".

    Raises:
        BadCheckpoint: The file is missing, damaged, or a pickle of anything but tensors;
            such a file is not opened.
    """
    data = _read(url)
    if spec.format == "safetensors":
        try:
            return safetensors.torch.load(data)
        except safetensors.SafetensorError as error:
            raise BadCheckpoint(
                f"{url} is not a whole safetensors file: {error}."
            ) from error
    try:
        with warnings.catch_warnings():
            # About pickle protocols; what cannot be read is raised as well.
            warnings.simplefilter("ignore")
            found = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadCheckpoint(
            f"{url} was not opened: it holds more than tensors, and opening it could run"
            " code. Save model.state_dict() with torch.save, or save safetensors."
        ) from error
    except (RuntimeError, EOFError, ValueError, LookupError, OSError) as error:
        raise BadCheckpoint(
            f"{url} is damaged or not a state dict: {error}."
        ) from error
    return _tensors(found, url)


def _read(url: str) -> bytes:
    try:
        return read_bytes(url, max_bytes=None)
    except OSError as error:
        raise unseen(url, error) from error


def _tensors(found: object, url: str) -> dict[str, torch.Tensor]:
    if isinstance(found, Mapping):
        inner = (
            found[name] for name in _WRAPPERS if isinstance(found.get(name), Mapping)
        )
        found = next(inner, found)
    if not isinstance(found, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in found.values()
    ):
        raise BadCheckpoint(f"{url} is not a state dict: it must map names to tensors.")
    prefix = "module." if all(name.startswith("module.") for name in found) else ""
    return {name.removeprefix(prefix): value for name, value in found.items()}


def _fill(
    model: nn.Module, state: dict[str, torch.Tensor], *, url: str, spec: ModelSpec
) -> None:
    """Load weights that fit exactly.

    Raises:
        BadCheckpoint: A name is missing or unexpected, or a shape differs.
    """
    wanted = model.state_dict()
    # Counters of batches that older files lack; inference does not use them.
    optional = {name for name in wanted if name.endswith(".num_batches_tracked")}
    shapes = [
        f"{name} is {tuple(state[name].shape)}, wanted {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    problems = {
        "missing": [
            name for name in wanted if name not in state and name not in optional
        ],
        "unexpected": [name for name in state if name not in wanted],
        "of another shape": shapes,
    }
    lines = [
        f"  {len(names)} {kind}: {', '.join(names[:SHOWN_PROBLEMS])}"
        + (", …" if len(names) > SHOWN_PROBLEMS else "")
        for kind, names in problems.items()
        if names
    ]
    if lines:
        head = (
            f"{url} does not fit {spec.architecture} with {len(spec.classes)} classes:"
        )
        raise BadCheckpoint("\n".join([head, *lines]))
    model.load_state_dict(state, strict=False)
