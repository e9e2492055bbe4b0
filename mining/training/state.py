"""The state of a retraining between two steps, as safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import nn

from mining.exceptions import MiningError
from mining.training.settings import EpochFigures

_HEADER: Final = "hardmine-training"
_LENGTH: Final = struct.Struct("<Q")  # of the JSON at the start of a safetensors file
_MODEL, _BEST, _ADAM = "model.", "best.", "adam."

Tensors = dict[str, torch.Tensor]


@dataclass(slots=True)
class RunState:
    """Where a retraining is, beside its weights.

    Attributes:
        epoch: The one at work, from 0; those before are in `figures`.
        step: Of this epoch, the next one, from 0.
        micro: Samples that go through the model at once.
        loss_sum: Sum of the losses of this epoch's samples so far.
        seen: Number of these samples.
        seconds: Time that this epoch took so far.
        figures: Of the epochs before.
        best_epoch: Epoch, from 1, with the lowest val loss; 0 before there is one.
        unreadable: Key -> why an image is left out.
        best: Weights of that epoch; empty without a val split.
    """

    micro: int
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    figures: list[EpochFigures] = field(default_factory=list)
    best_epoch: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)


def pack(
    run: RunState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    made_of: Mapping[str, str],
) -> bytes:
    """Return all that `unpack` needs to go on to the bit.

    Args:
        run: Where it is.
        model: Its weights.
        optimizer: Its moments.
        made_of: What the run was given, as digests by name.
    """
    facts = {name: getattr(run, name) for name in run.__slots__ if name != "best"}
    facts["figures"] = [line.to_dict() for line in run.figures]
    facts["unreadable"] = dict(run.unreadable)  # at once: threads may add to it
    tensors = {f"{_MODEL}{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"{_BEST}{name}": value for name, value in run.best.items()}
    for number, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"{_ADAM}{number}.{name}"] = value
    header = json.dumps({"made_of": dict(made_of), "run": facts})
    plain = {name: value.contiguous() for name, value in tensors.items()}
    return safetensors.torch.save(plain, {_HEADER: header})


def unpack(
    data: bytes,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    made_of: Mapping[str, str],
) -> RunState | None:
    """Put weights and moments back.

    Returns:
        Where the run was; None when the bytes are damaged and nothing was put back.

    Raises:
        MiningError: The state is of a run that was given something else.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
        facts = json.loads(header["__metadata__"][_HEADER])
        tensors = safetensors.torch.load(data)
        run = _run(facts["run"], _under(_BEST, tensors))
    except (
        safetensors.SafetensorError,
        struct.error,
        ValueError,
        LookupError,
        TypeError,
    ):
        return None
    _check_same(facts["made_of"], made_of)
    model.load_state_dict(_under(_MODEL, tensors))
    _put_moments(optimizer, _under(_ADAM, tensors))
    return run


def _run(facts: dict[str, Any], best: Tensors) -> RunState:
    facts["figures"] = [EpochFigures(**line) for line in facts["figures"]]
    return RunState(**facts, best=best)


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _check_same(found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise MiningError(
            "The saved state is of a training that was given another"
            f" {', another '.join(other)}. Nothing was changed. Start that training"
            " again as it was, or delete the state to begin anew."
        )


def _put_moments(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    weights = [item for group in optimizer.param_groups for item in group["params"]]
    moments: dict[int, Tensors] = {}
    for name, value in tensors.items():
        number, _, kind = name.partition(".")
        like = weights[int(number)]
        if value.shape == like.shape:  # in the memory order of the weight, as before
            value = torch.empty_like(like).copy_(value)
        moments.setdefault(int(number), {})[kind] = value
    given = optimizer.state_dict()
    optimizer.load_state_dict({**given, "state": moments})
