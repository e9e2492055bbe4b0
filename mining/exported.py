"""Run the graph of a torch.export archive, operator by operator, from a list of names."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from zipfile import BadZipFile

import torch
from torch import nn

from mining.archives import SCALAR_TYPES, STRIDED, Archive, read_archive
from mining.exceptions import BadCheckpoint
from mining.operators import find_operator

_SYMBOL: Final = re.compile(
    r"Symbol\('([a-zA-Z_]\w*)'(?:, \w+=\w+)*\)|([a-zA-Z_]\w*)", re.ASCII
)
_MEMORY_FORMATS: Final = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_FLOAT32: Final = 7
_TRAINING: Final = ("train", "training")
_PLAIN: Final[dict[str, tuple[type, ...]]] = {
    "as_bool": (bool,),
    "as_bools": (bool,),
    "as_float": (float, int),
    "as_floats": (float, int),
    "as_int": (int,),
    "as_ints": (int,),
    "as_string": (str,),
    "as_strings": (str,),
}
_DEVICE: Final = object()
# What reading JSON of any shape and calling operators with any arguments can raise.
_MALFORMED: Final = (
    ArithmeticError, AttributeError, BadZipFile, EOFError, LookupError, OSError,
    RuntimeError, TypeError, ValueError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Name:
    """Stands for a value that an earlier step gave."""

    name: str


@dataclass(frozen=True, slots=True)
class _Step:
    """One call.

    Attributes:
        target: The operator's name, for messages.
        call: The operator.
        args, kwargs: Its arguments; `_Name` and `_DEVICE` are filled in when it runs.
        outputs: Names for what it gives: None, a name, or a list for a list.
        last: Names that no later step uses.
    """

    target: str
    call: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    outputs: list[Any]
    last: tuple[str, ...]


def load_exported(data: bytes, *, url: str) -> ExportedModel:
    """Build the model of a torch.export archive without running anything of it.

    Raises:
        BadCheckpoint: It is damaged, may hold code, or is no classifier of float32 images
            made of known operators; the message names the file and the reason.
    """
    try:
        return ExportedModel(read_archive(data, url=url), url=url)
    except _MALFORMED as error:
        reason = str(error) if type(error) is ValueError else repr(error)
        raise BadCheckpoint(
            f"{url} is damaged or not a torch.export archive that can be run as data:"
            f" {reason}. Save the model again with torch.export.save, or export it to ONNX."
        ) from error


class ExportedModel(nn.Module):
    """A graph of listed operators on float32 images (B, C, H, W).

    Its strings are compared with known names and nothing else: none is evaluated, imported
    or written into source. What stays is trust in the kernels of the listed operators, as
    with ONNX. A batch outside the exported sizes is split, and its last part padded with
    zeros; the padding's logits are dropped.
    """

    def __init__(self, archive: Archive, *, url: str) -> None:
        super().__init__()
        self._url = url
        program = archive.program["graph_module"]
        graph = program["graph"]
        self._held: dict[str, str] = {}  # name in the graph -> name of the buffer
        self._input = self._take_inputs(
            graph["inputs"], program["signature"]["input_specs"], archive
        )
        self._shape = _shape(graph["tensor_values"][self._input])
        self._ranges = {
            name: _bounds(limits)
            for name, limits in archive.program["range_constraints"].items()
        }
        for size in self._shape:
            self._limits(size)  # every free size has its range
        self._output = _only_output(
            graph["outputs"], program["signature"]["output_specs"]
        )
        steps = [_step(node) for node in graph["nodes"]]
        self._steps = _with_lifetimes(
            steps, inputs={self._input, *self._held}, output=self._output
        )

    def _take_inputs(
        self, inputs: list[Any], specs: list[Any], archive: Archive
    ) -> str:
        """Register the tensors as buffers; return the name of the image input."""
        images = []
        for argument, spec in zip(inputs, specs, strict=True):
            name = argument["as_tensor"]["name"]
            ((kind, details),) = spec.items()
            if kind == "user_input":
                images.append(name)
                continue
            if kind == "parameter":
                tensor = archive.weights[details["parameter_name"]]
            elif kind == "buffer":
                held = archive.weights if details["persistent"] else archive.constants
                tensor = held[details["buffer_name"]]
            elif kind == "tensor_constant":
                tensor = archive.constants[details["tensor_constant_name"]]
            else:
                raise ValueError(f"its graph takes an input of the kind {kind!r}")
            self._held[name] = f"held_{len(self._held)}"
            self.register_buffer(self._held[name], tensor)
        if len(images) != 1:
            raise ValueError(f"its graph takes {len(images)} inputs, not one of images")
        return str(images[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the graph's output for normalised images float32 (B, C, H, W)."""
        low, high = self._limits(self._shape[0])
        step = int(min(len(x), high))
        parts = [
            self._padded(x[start : start + step], low)
            for start in range(0, len(x), step)
        ]
        return torch.cat(parts)

    def _limits(self, size: int | str) -> tuple[int, float]:
        return (size, size) if isinstance(size, int) else self._ranges[size]

    def _padded(self, x: torch.Tensor, low: int) -> torch.Tensor:
        missing = max(low - len(x), 0)
        full = torch.cat([x, x.new_zeros(missing, *x.shape[1:])]) if missing else x
        self._check_shape(full)
        output = self._run(full)
        if output.shape[:1] != full.shape[:1]:
            raise BadCheckpoint(
                f"{self._url} gives an output of shape {tuple(output.shape)} for"
                f" {len(full)} images; one row of logits for each is expected."
            )
        return output[: len(x)]

    def _check_shape(self, x: torch.Tensor) -> None:
        sizes: dict[int | str, int] = {}
        for wanted, size in zip(self._shape, x.shape, strict=True):
            low, high = self._limits(wanted)
            if not low <= size <= high or sizes.setdefault(wanted, size) != size:
                raise RuntimeError(f"it was exported for the shape {self._shape}")

    def _run(self, x: torch.Tensor) -> torch.Tensor:
        values: dict[str, Any] = {
            name: self.get_buffer(buffer) for name, buffer in self._held.items()
        }
        values[self._input] = x
        for step in self._steps:
            try:
                args = _filled(step.args, values, x.device)
                kwargs = _filled(step.kwargs, values, x.device)
                _bind(step.outputs, step.call(*args, **kwargs), values)
            except torch.OutOfMemoryError:
                raise
            except _MALFORMED as error:
                raise RuntimeError(f"{step.target}: {error}") from error
            for name in step.last:
                del values[name]  # activations of a whole network would not fit
        output = values[self._output]
        if not isinstance(output, torch.Tensor):
            raise BadCheckpoint(f"{self._url} gives no tensor of logits.")
        return output


def _shape(meta: dict[str, Any]) -> tuple[int | str, ...]:
    """Return the image input's sizes: numbers, or names of free sizes."""
    sizes = tuple(_size(size) for size in meta["sizes"])
    if meta["dtype"] != _FLOAT32 or len(sizes) != 4:
        kind = SCALAR_TYPES.get(meta["dtype"])
        raise ValueError(
            f"its input is {kind} with {len(sizes)} dimensions;"
            " one of float32 (batch, channels, height, width) is needed"
        )
    return sizes


def _size(size: dict[str, Any]) -> int | str:
    if "as_int" in size:
        found: int = _plain("as_int", size["as_int"])
        if found < 1:
            raise ValueError(f"an input size is {found}")
        return found
    text = size["as_expr"]["expr_str"]
    match = _SYMBOL.fullmatch(text)
    if match is None:
        raise ValueError(f"an input size is the expression {text!r}, not a free size")
    return match[1] or match[2]


def _bounds(limits: dict[str, Any]) -> tuple[int, float]:
    low, high = limits["min_val"], limits["max_val"]
    return (
        0 if low is None else _plain("as_int", low),
        float("inf") if high is None else max(_plain("as_int", high), 1),
    )


def _only_output(outputs: list[Any], specs: list[Any]) -> str:
    if any("user_output" not in spec for spec in specs):
        raise ValueError("its graph changes its own weights; export it after eval()")
    if len(outputs) != 1:
        raise ValueError(f"its graph gives {len(outputs)} outputs, not one of logits")
    return str(outputs[0]["as_tensor"]["name"])


def _step(node: dict[str, Any]) -> _Step:
    target = node["target"]
    call, numeric = find_operator(target)
    named = [(item["name"], _argument(item["arg"])) for item in node["inputs"]]
    if any(name in _TRAINING and value is True for name, value in named):
        raise ValueError("it was exported in training mode; export it after eval()")
    return _Step(
        target=target,
        call=call,
        args=[value for _, value in named] if numeric else [],
        kwargs={} if numeric else dict(named),
        outputs=[_result(output) for output in node["outputs"]],
        last=(),
    )


def _argument(argument: dict[str, Any]) -> Any:
    ((kind, value),) = argument.items()
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return _Name(value["name"])
        case "as_tensors":
            return [_Name(item["name"]) for item in value]
        case "as_sym_int" | "as_sym_float" | "as_sym_bool":
            return _number(value)
        case "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
            return [_number(item) for item in value]
        case "as_optional_tensors":
            return [_argument(item) for item in value]
        case "as_device":
            return _DEVICE  # wherever the images are, not where it was exported
        case _:
            return _constant(kind, value)


def _constant(kind: str, value: Any) -> Any:
    match kind:
        case "as_scalar_type":
            return SCALAR_TYPES[value]
        case "as_memory_format":
            return _MEMORY_FORMATS[value]
        case "as_layout" if value == STRIDED:
            return torch.strided
        case "as_floats":
            return [_plain(kind, _float(item)) for item in value]
        case "as_float":
            return _plain(kind, _float(value))
        case "as_ints" | "as_bools" | "as_strings":
            return [_plain(kind, item) for item in value]
        case "as_int" | "as_bool" | "as_string":
            return _plain(kind, value)
        case _:
            raise ValueError(f"a call takes an argument of the kind {kind!r}")


def _float(value: object) -> object:
    return float(value) if value in ("Infinity", "-Infinity", "NaN") else value


def _plain(kind: str, value: Any) -> Any:
    if type(value) not in _PLAIN[kind]:
        raise ValueError(f"{value!r} stands where {kind} is needed")
    return value


def _number(value: dict[str, Any]) -> Any:
    if "as_name" in value:
        return _Name(value["as_name"])
    return _argument(value)


def _result(output: dict[str, Any]) -> Any:
    found = _argument(output)
    if isinstance(found, list):
        return [item and item.name for item in found]
    return found and found.name


def _with_lifetimes(
    steps: list[_Step], *, inputs: set[str], output: str
) -> list[_Step]:
    """Note after which step each value can go.

    Raises:
        KeyError: A name is used that no earlier step gives.
    """
    known = set(inputs)
    for step in steps:
        for name in _names([step.args, step.kwargs]):
            if name not in known:
                raise KeyError(name)
        known.update(_result_names(step.outputs))
    if output not in known:
        raise KeyError(output)
    needed = {output}
    done = []
    for step in reversed(steps):
        used = {*_names([step.args, step.kwargs]), *_result_names(step.outputs)}
        last = tuple(used - needed)
        needed |= used
        done.append(
            _Step(step.target, step.call, step.args, step.kwargs, step.outputs, last)
        )
    return done[::-1]


def _names(template: Any) -> Iterator[str]:
    if isinstance(template, _Name):
        yield template.name
    elif isinstance(template, list | dict):
        for item in template.values() if isinstance(template, dict) else template:
            yield from _names(item)


def _result_names(outputs: list[Any]) -> Iterator[str]:
    for item in outputs:
        if isinstance(item, list):
            yield from _result_names(item)
        elif item is not None:
            yield item


def _filled(template: Any, values: dict[str, Any], device: torch.device) -> Any:
    if isinstance(template, _Name):
        return values[template.name]
    if isinstance(template, list):
        return [_filled(item, values, device) for item in template]
    if isinstance(template, dict):
        return {key: _filled(item, values, device) for key, item in template.items()}
    return device if template is _DEVICE else template


def _bind(outputs: list[Any], result: Any, values: dict[str, Any]) -> None:
    if len(outputs) == 1:
        result = (result,)
    for name, value in zip(outputs, result if outputs else (), strict=True):
        if isinstance(name, list):
            if len(name) != len(value):
                raise ValueError(f"{len(value)} tensors came, not {len(name)}")
            values.update(zip(name, value, strict=True))
        elif name is not None:
            values[name] = value
