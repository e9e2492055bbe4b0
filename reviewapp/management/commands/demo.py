"""manage.py demo: the main job on real images, in one command."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser

from mining.sources.files import is_local
from reviewapp.actions.datasets import register_dataset
from reviewapp.actions.people import set_role
from reviewapp.actions.registry import register_version
from reviewapp.actions.scans import cancel_scan, start_scan
from reviewapp.demo.accounts import ADMIN, REVIEWER, ensure_accounts
from reviewapp.demo.recipes import RECIPES, Recipe
from reviewapp.exceptions import Refused
from reviewapp.management.base import DomainCommand, find_user
from reviewapp.management.meter import Meter
from reviewapp.management.processes import (
    require_free_port,
    unserved_queues,
    worker_for_now,
)
from reviewapp.management.registering import queue_again, register_here
from reviewapp.management.scans import print_result, wait_for
from reviewapp.models import Dataset, ModelVersion, Registration, Role, Scan, User
from reviewapp.tasks import enqueue_scan, recover_lost_work

HOST, PORT = "127.0.0.1", 8000
SPLIT = "test"


class Command(DomainCommand):
    help = (
        "Register real images, train a model, scan with it, then serve. What is there "
        "already is used again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data", choices=list(RECIPES), default="elpv")
        parser.add_argument(
            "--exit", action="store_true", help="stop after the table of confusions"
        )

    def run(self, *, data: str, **options: Any) -> None:
        if not options["exit"]:
            require_free_port(HOST, PORT)
        call_command("migrate", verbosity=0, interactive=False)
        recipe = RECIPES[data]
        accounts = ensure_accounts(settings.VAR / "demo-accounts.txt")
        admin = find_user(ADMIN)
        folder = (
            _first_local(settings.DATA_ROOTS, "HARDMINE_DATA_ROOTS") / recipe.folder
        )
        dataset = self._register(recipe, folder, admin)
        _let_review(dataset, admin)
        version = self._train(data, dataset, folder, admin)
        scan = self._scan(version, admin)
        print_result(scan, self.stdout)
        self._tell_accounts(accounts, serving=not options["exit"])
        if not options["exit"]:
            self.stdout.flush()
            # A fresh process: this one holds torch and all it needed for training.
            manage = str(settings.BASE_DIR / "manage.py")
            os.execv(sys.executable, [sys.executable, manage, "up"])  # noqa: S606

    def _track(self, label: str, total: int) -> Meter:
        return Meter(self.stdout, label, total)

    def _register(self, recipe: Recipe, folder: Path, admin: User) -> Dataset:
        if not folder.exists():
            recipe.prepare(folder, self._track)
        dataset = Dataset.objects.filter(name=recipe.dataset).first()
        if dataset is None:
            registration = register_dataset(
                name=recipe.dataset,
                root=str(folder),
                manifest=recipe.manifest,
                by=admin,
            )
        elif dataset.registrations.filter(state=Registration.State.DONE).exists():
            return dataset
        else:
            registration = queue_again(dataset, admin)
        return register_here(registration, self.stdout).dataset

    def _train(
        self, data: str, dataset: Dataset, folder: Path, admin: User
    ) -> ModelVersion:
        recipe = RECIPES[data]
        models = _first_local(settings.MODEL_ROOTS, "HARDMINE_MODEL_ROOTS")
        checkpoint = models / recipe.checkpoint
        if not checkpoint.exists():
            # Loads torch, which a second run has no need of.
            from reviewapp.demo.training import TRAINERS  # noqa: PLC0415

            TRAINERS[data](folder, checkpoint, dataset.class_names(), self._track)
        return register_version(
            dataset=dataset,
            name=recipe.model,
            checkpoint=str(checkpoint),
            note="Trained by the demo",
            by=admin,
        )

    def _scan(self, version: ModelVersion, admin: User) -> Scan:
        scans = Scan.objects.with_names().filter(model_version=version, split=SPLIT)
        if done := scans.finished().newest_first().first():
            return done
        log = settings.VAR / "demo-worker.log"
        with worker_for_now(log) if unserved_queues() else nullcontext() as worker:
            recover_lost_work()  # what an interrupted demo left
            scan = scans.active().first() or _start(version, admin)
            try:
                return wait_for(scan, self.stdout, worker=worker)
            except BaseException:
                # Ours alone could end it, so it would look active for ever.
                with suppress(Refused):
                    cancel_scan(scan=scan, by=admin)
                raise

    def _tell_accounts(self, accounts: dict[str, str | None], *, serving: bool) -> None:
        first = "\nLog in" if serving else "\nStart it with `make up`, then log in"
        self.stdout.write(f"{first} at http://{HOST}:{PORT} as")
        for name, password in accounts.items():
            self.stdout.write(f"  {name} / {password or '(the password you gave it)'}")
        self.stdout.write("")


def _first_local(roots: list[str], setting: str) -> Path:
    if not roots or not is_local(roots[0]):
        raise CommandError(f"The demo needs a local folder as the first of {setting}.")
    return Path(roots[0])


def _let_review(dataset: Dataset, admin: User) -> None:
    reviewer = find_user(REVIEWER)
    if not dataset.memberships.filter(user=reviewer).exists():
        set_role(dataset=dataset, user=reviewer, role=Role.REVIEWER, by=admin)


def _start(version: ModelVersion, admin: User) -> Scan:
    scan = start_scan(
        dataset=version.registered_model.dataset,
        version=version,
        split=SPLIT,
        trigger=Scan.Trigger.COMMAND,
        by=admin,
    )
    enqueue_scan(scan)
    return scan
