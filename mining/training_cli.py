"""The command line's `train`: retrain a checkpoint with a recipe."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Final, get_args

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from mining.exceptions import MiningError
from mining.recipe import Recipe, read_recipe
from mining.sources import open_source
from mining.specs import read_spec
from mining.training.settings import (
    EpochFigures,
    FileState,
    Loss,
    Start,
    Trained,
    TrainPrecision,
    TrainSample,
    TrainSettings,
)
from mining.types import Device, SourceEntry

_CHOICES: Final = {
    "loss": get_args(Loss),
    "start": get_args(Start),
    "device": get_args(Device),
    "precision": get_args(TrainPrecision),
}
_HELP: Final = {
    "epochs": "passes over the samples at most",
    "batch_size": "samples in one step",
    "lr": "highest learning rate",
    "weight_decay": "of AdamW",
    "patience": "epochs without a better val loss before it stops; 0 never does",
    "loss": "what to minimise; classes are weighed by the recipe",
    "start": "go on from the checkpoint's weights, or from new ones",
    "seed": "decides new weights, order and augmentation",
    "device": "where to run",
    "precision": "what to compute in; weights are float32 in any case",
    "workers": "threads that read and decode; 0 takes one per CPU",
}


def add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` to the commands."""
    train = commands.add_parser(
        "train",
        help="retrain a model with a recipe; killed, it goes on when called again",
    )
    train.add_argument("root", help="folder or URL of the data set")
    train.add_argument("checkpoint", help="model file, its spec beside it")
    train.add_argument(
        "recipe", nargs="?", help="recipe of a fix set; without one, train as it is"
    )
    train.add_argument("--out", type=Path, required=True, help="safetensors to write")
    train.add_argument("--manifest", help="CSV, JSONL or Parquet under the root")
    train.add_argument(
        "--only-recipe",
        action="store_true",
        help="train on the recipe's samples alone, not on the rest of the train split",
    )
    defaults = TrainSettings()
    for field in fields(TrainSettings):
        if field.name in _HELP:
            default = getattr(defaults, field.name)
            train.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=type(default),
                choices=_CHOICES.get(field.name),
                default=default,
                help=f"{_HELP[field.name]} (default {default})",
            )
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> None:
    """Train as the options say.

    Raises:
        MiningError: Something does not fit, or it was stopped.
    """
    settings = _settings(options)
    spec = read_spec(options.checkpoint)
    recipe = read_recipe(options.recipe) if options.recipe else None
    entries = list(open_source(options.root, options.manifest).entries())
    train, val = _parts(entries, recipe)
    state = FileState(Path(f"{options.out}.state"))
    # Here, so that everything above answers at once: torch takes seconds to import.
    from mining.training.trainer import retrain  # noqa: PLC0415 (loads torch)

    console = Console()
    kept = f"What was learnt is kept in {options.out}.state; the same command goes on."
    try:
        with _progress() as progress:
            task = progress.add_task("Training", total=None)
            trained = retrain(
                parent=options.checkpoint,
                spec=spec,
                train=train,
                val=val,
                recipe=recipe,
                settings=settings,
                out=options.out,
                state=state,
                on_step=lambda epoch, done, samples: progress.update(
                    task,
                    completed=done,
                    total=samples,
                    description=f"Epoch {epoch} of {settings.epochs}",
                ),
                on_epoch=lambda figures: _say_epoch(console, figures),
            )
    except KeyboardInterrupt as error:
        raise MiningError(f"Stopped. {kept}") from error
    except OSError as error:
        raise MiningError(f"The training stopped: {error}. {kept}") from error
    state.forget()
    _report(console, trained, options.out)


def _settings(options: argparse.Namespace) -> TrainSettings:
    given = {name: getattr(options, name) for name in _HELP}
    try:
        return TrainSettings(**given, rest=not options.only_recipe)
    except ValueError as error:
        raise MiningError(f"{error}.") from error


def _parts(
    entries: Sequence[SourceEntry], recipe: Recipe | None
) -> tuple[list[TrainSample], list[TrainSample]]:
    """Return what to train on and what to validate with.

    Samples without a split are trained on; those that the recipe names are too, wherever
    they lie, and so are not validated with.
    """
    named = {sample.key for sample in recipe.samples} if recipe else set()
    train, val = [], []
    for entry in entries:
        sample = TrainSample(entry.key, entry.url, entry.label)
        if entry.split in ("train", "") or entry.key in named:
            train.append(sample)
        elif entry.split == "val":
            val.append(sample)
    if not train:
        counts = Counter(entry.split for entry in entries)
        found = ", ".join(
            f"{name}: {count:,}" for name, count in sorted(counts.items())
        )
        raise MiningError(f"There is no train split. The data set has {found}.")
    return train, val


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _say_epoch(console: Console, figures: EpochFigures) -> None:
    line = f"Epoch {figures.epoch}: loss {figures.train_loss:.4f}"
    if figures.val_loss is not None and figures.val_accuracy is not None:
        line += f", val loss {figures.val_loss:.4f}"
        line += f", val accuracy {100 * figures.val_accuracy:.1f} %"
    console.print(f"{line}, {figures.seconds:.1f} s", highlight=False)


def _report(console: Console, trained: Trained, out: Path) -> None:
    early = "; it stopped early" if trained.stopped_early else ""
    data = (
        f"Trained on {trained.samples:,} images ({trained.device}), validated with"
        f" {trained.val_samples:,}{early}."
    )
    kept = f"Wrote the weights of epoch {trained.best_epoch} to {out}."
    for line in (data, kept, *trained.notes):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
