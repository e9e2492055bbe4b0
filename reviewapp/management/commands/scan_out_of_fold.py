"""manage.py scan_out_of_fold: honest errors of the train split, made here."""

from __future__ import annotations

import os
import socket
from typing import Any, Final, get_args

from django.core.management.base import CommandError, CommandParser

from mining.training.settings import Loss, TrainPrecision, TrainSettings
from mining.types import Device
from reviewapp.actions.folds import start_folds
from reviewapp.actions.runs import cancel_run, claim_run, fail_run, resume_run
from reviewapp.exceptions import plain_message
from reviewapp.folding import scan_out_of_fold
from reviewapp.management.base import (
    INTERRUPTED,
    DomainCommand,
    find_dataset,
    find_model,
)
from reviewapp.management.meter import Meter
from reviewapp.management.scans import print_result
from reviewapp.models import FoldRun
from reviewapp.tasks import send_what_follows

DEFAULTS: Final = TrainSettings()
CHOICES: Final = {"loss": Loss, "device": Device, "precision": TrainPrecision}
NUMBERS: Final = ("epochs", "batch_size", "lr", "weight_decay", "patience", "seed", "workers")  # fmt: skip


class Command(DomainCommand):
    help = (
        "Train several models, each without one part of the train split, and record "
        "what each says of the part it has not seen as a scan. Stopped or killed, it "
        "goes on with --resume."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", nargs="?", help="name or slug of the data set")
        parser.add_argument(
            "model", nargs="?", help="registered model; its latest version's kind"
        )
        parser.add_argument("--folds", type=int, default=5, metavar="K")
        parser.add_argument("--resume", type=int, metavar="RUN")
        chosen = parser.add_argument_group("settings of the training")
        for name, kind in CHOICES.items():
            chosen.add_argument(f"--{name}", choices=get_args(kind))
        for name in NUMBERS:
            default = getattr(DEFAULTS, name)
            chosen.add_argument(
                f"--{name.replace('_', '-')}",
                type=type(default),
                metavar="N",
                help=f"default: {default}",
            )

    def run(self, *, resume: int | None, **options: Any) -> None:
        run = self._start(**options) if resume is None else _resume(resume)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        claimed = claim_run(kind=FoldRun, run_id=run.pk, worker=worker)
        if claimed is None:
            raise CommandError(f"{run} went to a worker; its page shows it.")
        self.stdout.write(f"Out-of-fold run {run.pk}: {run.folds} x {claimed.parent}")
        try:
            with Meter(self.stdout, f"Training like {run.parent}", None) as meter:
                done = scan_out_of_fold(claimed, watch=_Watch(meter, claimed))
        except KeyboardInterrupt as error:
            cancel_run(run=run, by=None)
            raise CommandError(
                f"Stopped. Go on with: manage.py scan_out_of_fold --resume {run.pk}",
                returncode=INTERRUPTED,
            ) from error
        except Exception as error:
            fail_run(run=claimed, message=plain_message(error))
            raise
        finally:
            send_what_follows()
        self._tell(run, done=done)

    def _start(
        self, *, dataset: str, model: str, folds: int, **options: Any
    ) -> FoldRun:
        if not model:
            raise CommandError("Name a data set and a model, or a run to --resume.")
        found = find_dataset(dataset)
        version = find_model(found, model).latest_version()
        if version is None:
            raise CommandError(f"The model {model} has no version.")
        names = (*CHOICES, *NUMBERS)
        return start_folds(
            dataset=found,
            parent=version,
            folds=folds,
            settings={n: options[n] for n in names if options[n] is not None},
            by=None,
        )

    def _tell(self, run: FoldRun, *, done: bool) -> None:
        run = FoldRun.objects.with_names().get(pk=run.pk)
        if not done or run.scan is None:
            raise CommandError(f"{run} was stopped, or went to a worker.")
        for note in run.notes:
            self.stdout.write(note)
        print_result(run.scan, self.stdout)


class _Watch:
    """Shows the steps of a run on a meter."""

    def __init__(self, meter: Meter, run: FoldRun) -> None:
        self._meter, self._folds = meter, run.folds
        self._epochs = run.settings["epochs"]

    def __call__(self, fold: int, epoch: int, done: int, of_all: int) -> None:
        self._meter.expect(self._folds * self._epochs * of_all)
        before = (fold - 1) * self._epochs + epoch - 1
        self._meter.reach(before * of_all + done)
        self._meter.note(f"fold {fold} of {self._folds}, epoch {epoch}")


def _resume(run_id: int) -> FoldRun:
    run = FoldRun.objects.with_names().filter(pk=run_id).first()
    if run is None:
        raise CommandError(f"There is no out-of-fold run {run_id}.")
    return resume_run(run=run, by=None)
