"""manage.py retrain: train a model version again, here, and register what comes of it."""

from __future__ import annotations

import os
import socket
from argparse import BooleanOptionalAction
from typing import Any, Final, get_args

from django.core.management.base import CommandError, CommandParser

from mining.training.settings import Loss, Start, TrainPrecision, TrainSettings
from mining.types import Device
from reviewapp.actions.runs import claim_run, fail_run
from reviewapp.actions.training import (
    cancel_training,
    resume_training,
    start_training,
)
from reviewapp.exceptions import plain_message
from reviewapp.management.base import (
    INTERRUPTED,
    DomainCommand,
    find_dataset,
    find_fix_set,
    find_model,
)
from reviewapp.management.meter import Meter
from reviewapp.models import Dataset, ModelVersion, Recipe, Split, TrainingRun
from reviewapp.retraining import train_run
from reviewapp.tasks import enqueue_training, send_due_deliveries, send_due_scans
from reviewapp.templatetags.hardmine import duration, percent

DEFAULTS: Final = TrainSettings()
CHOICES: Final = {
    "loss": Loss,
    "start": Start,
    "device": Device,
    "precision": TrainPrecision,
}
NUMBERS: Final = {
    "epochs": (int, "passes over the samples at most"),
    "batch_size": (int, "samples in one step"),
    "lr": (float, "highest learning rate"),
    "weight_decay": (float, "of AdamW"),
    "patience": (int, "epochs without a better val loss before it stops; 0: never"),
    "seed": (int, "decides order and augmentation"),
    "workers": (int, "threads that read images; 0: one for each CPU"),
}


class Command(DomainCommand):
    help = (
        "Retrain a model version with the recipe of a fix set, in this process; the "
        "result is registered as the next version and its verifying scan goes to the "
        "workers. Stopped or killed, it goes on with --resume and ends in the same "
        "weights."
    )

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        # Django's own --version, which prints its version, gives way to ours.
        return super().create_parser(*args, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", nargs="?", help="name or slug of the data set")
        parser.add_argument("model", nargs="?", help="name of the registered model")
        parser.add_argument(
            "--fix-set", help="its newest recipe; default: the train split as it is"
        )
        parser.add_argument(
            "--version", type=int, dest="number", help="to start from; default: latest"
        )
        parser.add_argument("--split", choices=Split.values, default=Split.TEST.value)
        parser.add_argument(
            "--control",
            action="store_true",
            help="have a worker train as many samples, drawn at random",
        )
        parser.add_argument("--resume", type=int, metavar="RUN")
        chosen = parser.add_argument_group("settings of the training")
        for name, kind in CHOICES.items():
            chosen.add_argument(f"--{name}", choices=get_args(kind))
        for name, (number, told) in NUMBERS.items():
            chosen.add_argument(
                f"--{name.replace('_', '-')}",
                type=number,
                metavar="N",
                help=f"{told}; default: {getattr(DEFAULTS, name)}",
            )
        chosen.add_argument(
            "--rest",
            action=BooleanOptionalAction,
            default=None,
            help="train on what the recipe does not name too; default: yes",
        )

    def run(self, *, resume: int | None, **options: Any) -> None:
        run = self._start(**options) if resume is None else _resume(resume)
        claimed = claim_run(
            kind=TrainingRun,
            run_id=run.pk,
            worker=f"{socket.gethostname()}:{os.getpid()}",
        )
        if claimed is None:
            raise CommandError(f"{run} went to a worker; its page shows it.")
        self.stdout.write(f"Training run {run.pk}: {claimed.parent}")
        for control in run.controls.all():
            enqueue_training(control)
        self._see_through(claimed)

    def _start(
        self,
        *,
        dataset: str,
        model: str,
        number: int | None,
        fix_set: str | None,
        split: str,
        control: bool,
        **options: Any,
    ) -> TrainingRun:
        if not model:
            raise CommandError("Name a data set and a model, or a run to --resume.")
        found = find_dataset(dataset)
        names = (*CHOICES, *NUMBERS, "rest")
        return start_training(
            dataset=found,
            parent=_version(found, model, number),
            recipe=_recipe(found, fix_set) if fix_set else None,
            settings={n: options[n] for n in names if options[n] is not None},
            with_control=control,
            scan_split=split,
            by=None,
        )

    def _see_through(self, run: TrainingRun) -> None:
        try:
            with Meter(self.stdout, f"Training {run.parent}", None) as meter:
                done = train_run(run, watch=_Watch(meter, run.settings["epochs"]))
        except KeyboardInterrupt as error:
            cancel_training(run=run, by=None)
            raise CommandError(
                f"Stopped. Go on with: manage.py retrain --resume {run.pk}",
                returncode=INTERRUPTED,
            ) from error
        except Exception as error:
            fail_run(run=run, message=plain_message(error))
            raise
        finally:
            send_due_scans()
            send_due_deliveries()
        if not done:
            raise CommandError(f"{run} was stopped, or went to a worker.")
        self._tell(TrainingRun.objects.with_names().get(pk=run.pk))

    def _tell(self, run: TrainingRun) -> None:
        for epoch in run.epochs:
            validated = epoch["val_loss"] is not None
            val = (
                f", val loss {epoch['val_loss']:.4f}, {percent(epoch['val_accuracy'])}"
                if validated
                else ""
            )
            kept = "  kept" if epoch["epoch"] == run.outcome["best_epoch"] else ""
            took = duration(epoch["seconds"])
            self.stdout.write(
                f"epoch {epoch['epoch']}: train loss {epoch['train_loss']:.4f}{val}, "
                f"{took}{kept}"
            )
        for note in run.outcome["notes"]:
            self.stdout.write(note)
        self.stdout.write(f"{run.version}: {run.version and run.version.checkpoint}")
        if run.verifying_scan:
            self.stdout.write(f"Scan {run.verifying_scan.pk} verifies it.")
        elif run.message:
            self.stdout.write(run.message)


class _Watch:
    """Shows the steps of a training on a meter."""

    def __init__(self, meter: Meter, epochs: int) -> None:
        self._meter, self._epochs = meter, epochs

    def __call__(self, epoch: int, done: int, of_all: int) -> None:
        self._meter.expect(self._epochs * of_all)
        self._meter.reach((epoch - 1) * of_all + done)
        self._meter.note(f"epoch {epoch} of {self._epochs}")


def _resume(run_id: int) -> TrainingRun:
    run = TrainingRun.objects.with_names().filter(pk=run_id).first()
    if run is None:
        raise CommandError(f"There is no training run {run_id}.")
    return resume_training(run=run, by=None)


def _version(dataset: Dataset, name: str, number: int | None) -> ModelVersion:
    model = find_model(dataset, name)
    version = (
        model.latest_version()
        if number is None
        else model.versions.filter(number=number).first()
    )
    if version is None:
        raise CommandError(f"{model} has no such version.")
    return version


def _recipe(dataset: Dataset, name: str) -> Recipe:
    recipes = find_fix_set(dataset, name).recipes.done().lean().newest_first()
    recipe = recipes.first()
    if recipe is None:
        raise CommandError(
            f"The fix set {name} has no recipe that is done. A worker makes it when the "
            "set is frozen; look at the page of the set."
        )
    return recipe
