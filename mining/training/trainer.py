"""Retrain a model version with a recipe: the same input gives the same weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import safetensors.torch
import torch
from torch import nn

from mining.architectures import build
from mining.checkpoints import load_network
from mining.exceptions import SHOWN_PROBLEMS, BadCheckpoint, MiningError
from mining.predictors import resolve_device
from mining.recipe import Recipe
from mining.specs import checkpoint_digest, spec_url
from mining.threads import available_cpus
from mining.training.batches import Batches
from mining.training.datasets import FixSetDataset
from mining.training.loop import Loop
from mining.training.pixels import Pixels
from mining.training.settings import (
    OnEpoch,
    OnStep,
    StateStore,
    Trained,
    TrainSample,
    TrainSettings,
    write_whole,
)
from mining.types import ModelSpec, SampleRef

_TRAINABLE: Final = ("safetensors", "state_dict")


def retrain(
    *,
    parent: str,
    spec: ModelSpec,
    train: Sequence[TrainSample],
    val: Sequence[TrainSample],
    recipe: Recipe | None,
    settings: TrainSettings,
    out: Path,
    state: StateStore,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train a model and write it with its spec, whole or not at all.

    A run that was killed goes on from what `state` has, and ends in the same bytes as one
    that was not, on the same kind of machine with as many threads. Images that cannot be
    read, or are no longer what the recipe's digest says, are left out and told of.

    Args:
        parent: Path or URL of the checkpoint to go on from, or whose architecture to take.
        spec: What `mining.specs.read_spec` gives for it.
        train: Samples to train on, and those that the recipe names elsewhere; with
            `settings.rest` off only the recipe's are used.
        val: Samples for early stopping; none of them trained on. Empty: the last epoch's
            weights are kept.
        recipe: What to do with which samples; None trains on `train` as it is.
        settings: How.
        out: Of the safetensors file; its spec is written as `<out>.json`.
        state: Where the run is saved after each epoch, and each minute in long ones.
        on_step: Called with epoch (from 1), samples done and samples in the epoch; may
            raise to stop.
        on_epoch: Called with the figures of each epoch.

    Raises:
        BadCheckpoint: The parent cannot be used.
        MiningError: The samples, the recipe or the state do not fit; the message says what
            to do. Nothing was written.
        ConnectionError: The storage cannot be reached.
        OSError: `out` cannot be written.
    """
    _check_trainable(parent, spec)
    if not out.parent.is_dir():  # said before hours of training, not after
        raise MiningError(f"{out.parent} is no folder. Nothing was trained. Make it.")
    inputs = _inputs(spec, train, val, recipe, settings)
    with _own_luck(settings):
        loop = Loop(
            _network(parent, spec, settings),
            inputs.batches,
            class_weights=inputs.data.class_weights,
            preprocessing=spec.preprocessing,
            settings=settings,
            made_of=_made_of(parent, spec, train, val, recipe, settings),
            state=state,
            has_val=bool(val),
            samples=len(inputs.data),
        )
        loop.resume()
        inputs.pixels.unreadable |= loop.run.unreadable
        loop.run.unreadable = inputs.pixels.unreadable
        loop.go(on_step=on_step, on_epoch=on_epoch)
    _write(out, loop.model, spec)
    return _trained(loop, inputs)


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What a run goes through.

    Attributes:
        data: What to train on.
        pixels: Of all samples.
        batches: Both of them together.
        trained: Keys to train on, each once.
        validated: Keys to validate with.
    """

    data: FixSetDataset
    pixels: Pixels
    batches: Batches
    trained: frozenset[str]
    validated: frozenset[str]


class _Labels:
    """A data set of labels, for `FixSetDataset` to say what becomes of each sample."""

    def __init__(self, labels: Sequence[int]) -> None:
        self._labels = labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int, /) -> tuple[None, int]:
        return None, self._labels[index]


def _check_trainable(parent: str, spec: ModelSpec) -> None:
    if spec.format not in _TRAINABLE:
        raise BadCheckpoint(
            f"{parent} is a graph in the format {spec.format}, which can be run but not"
            " trained. Register the weights it was exported from, as safetensors or a"
            " state dict."
        )


def _inputs(
    spec: ModelSpec,
    train: Sequence[TrainSample],
    val: Sequence[TrainSample],
    recipe: Recipe | None,
    settings: TrainSettings,
) -> _Inputs:
    """Check what was given, and join it."""
    samples = [*train, *val]
    known = {name: index for index, name in enumerate(spec.classes)}
    labels = [known.get(sample.label, -1) for sample in samples]
    data = _data(spec, train, labels[: len(train)], recipe, rest=settings.rest)
    places = [entry.index for entry in data.entries]
    used = [entry.index for entry in data.entries if entry.label is None]
    strange = {
        samples[n].label
        for n in (*used, *range(len(train), len(samples)))
        if labels[n] < 0
    }
    _refuse_classes("the samples", strange)
    trained = frozenset(train[place].key for place in places)
    _check_apart(trained, val)
    digests = {item.key: item.digest for item in recipe.samples} if recipe else {}
    pixels = Pixels(
        [
            # A class of its own is the recipe's; the reader only looks at the range.
            SampleRef(
                n,
                item.key,
                item.url,
                max(label, 0),
                digests.get(item.key) or item.digest,
            )
            for n, (item, label) in enumerate(zip(samples, labels, strict=True))
        ],
        spec.preprocessing,
        n_classes=len(spec.classes),
    )
    batches = Batches(
        data,
        labels,
        pixels,
        val=range(len(train), len(samples)),
        batch_size=settings.batch_size,
        seed=settings.seed,
        threads=settings.workers or available_cpus(),
    )
    return _Inputs(data, pixels, batches, trained, frozenset(item.key for item in val))


def _data(
    spec: ModelSpec,
    train: Sequence[TrainSample],
    labels: Sequence[int],
    recipe: Recipe | None,
    *,
    rest: bool,
) -> FixSetDataset:
    recipe = recipe or Recipe(samples=())
    given = {sample.label for sample in recipe.samples if sample.role != "drop"}
    _refuse_classes("the recipe", given - set(spec.classes))
    keys = [sample.key for sample in train]
    try:
        data = FixSetDataset(
            _Labels(labels),
            recipe,
            key=keys.__getitem__,
            classes=spec.classes,
            rest=rest,
        )
    except ValueError as error:
        raise MiningError(f"The training was not begun: {error}.") from error
    if not len(data):
        raise MiningError(
            "There is nothing to train on: no sample is left of the train split and the"
            " recipe. Nothing was written."
        )
    return data


def _refuse_classes(of: str, strange: set[str]) -> None:
    if strange:
        names = ", ".join(sorted(strange)[:SHOWN_PROBLEMS])
        raise MiningError(
            f"The model has no output for {len(strange):,} of the classes of {of}:"
            f" {names}. Nothing was trained. Give a model that has them, or take these"
            " samples out."
        )


def _check_apart(trained: frozenset[str], val: Sequence[TrainSample]) -> None:
    both = sorted({sample.key for sample in val} & trained)
    if both:
        raise MiningError(
            f"{len(both):,} samples would be trained on and validated with, such as"
            f" {', '.join(both[:SHOWN_PROBLEMS])}. Nothing was trained. Leave them out of"
            " the val split."
        )


def _network(parent: str, spec: ModelSpec, settings: TrainSettings) -> nn.Module:
    if settings.start == "version":
        return load_network(parent, spec)
    torch.manual_seed(settings.seed)
    return build(spec.architecture, len(spec.classes))


@contextmanager
def _own_luck(settings: TrainSettings) -> Iterator[None]:
    """Give torch's random numbers back afterwards; have a GPU compute the same each time."""
    on_gpu = resolve_device(settings.device).type == "cuda"
    devices = [torch.cuda.current_device()] if on_gpu else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        yield


def _made_of(
    parent: str,
    spec: ModelSpec,
    train: Sequence[TrainSample],
    val: Sequence[TrainSample],
    recipe: Recipe | None,
    settings: TrainSettings,
) -> dict[str, str]:
    """Return what decides the weights, as digests by the name that a message uses."""
    return {
        "parent": checkpoint_digest(parent),
        "model spec": _digest(spec.to_dict()),
        "recipe": recipe.digest if recipe else "",
        "list of samples": _digest([[s.key, s.label, s.digest] for s in train]),
        "val split": _digest([[s.key, s.label, s.digest] for s in val]),
        "choice of settings": _digest(replace(settings, workers=0).to_dict()),
    }


def _digest(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _write(out: Path, model: nn.Module, spec: ModelSpec) -> None:
    """Write the spec, then the weights: a checkpoint without its spec is never seen."""
    weights = {
        name: value.cpu().contiguous() for name, value in model.state_dict().items()
    }
    text = json.dumps(
        replace(spec, format="safetensors").to_dict(), indent=2, ensure_ascii=False
    )
    beside = Path(spec_url(str(out)))
    write_whole(beside, f"{text}\n".encode())
    try:
        write_whole(out, safetensors.torch.save(weights))
    except OSError:
        if not out.exists():
            beside.unlink(missing_ok=True)
        raise


def _trained(loop: Loop, inputs: _Inputs) -> Trained:
    lost: Mapping[str, str] = inputs.pixels.unreadable
    notes = list(loop.notes)
    if lost:
        shown = "; ".join(
            f"{key}: {why}" for key, why in sorted(lost.items())[:SHOWN_PROBLEMS]
        )
        more = len(lost) - SHOWN_PROBLEMS
        rest = f"; and {more:,} more" if more > 0 else ""
        noun = "image was" if len(lost) == 1 else "images were"
        notes.append(f"{len(lost):,} {noun} left out: {shown}{rest}.")
    return Trained(
        epochs=tuple(loop.run.figures),
        best_epoch=loop.run.best_epoch or len(loop.run.figures),
        batch_size=loop.run.micro,
        device=loop.device.type,
        samples=len(inputs.trained - lost.keys()),
        val_samples=len(inputs.validated - lost.keys()),
        stopped_early=loop.stopped_early,
        unreadable=len(lost),
        notes=tuple(notes),
    )
