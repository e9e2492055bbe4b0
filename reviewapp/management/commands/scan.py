"""manage.py scan: find a model's errors, and list them."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from typing import Any

from django.core.management.base import CommandError, CommandParser

from reviewapp.actions.scans import start_scan
from reviewapp.management.base import (
    INTERRUPTED,
    DomainCommand,
    find_dataset,
    find_model,
)
from reviewapp.management.processes import unserved_queues
from reviewapp.management.scans import print_result, wait_for
from reviewapp.models import ModelVersion, RegisteredModel, Scan, Split
from reviewapp.tasks import enqueue_scan


class Command(DomainCommand):
    help = "Scan a data set with a model; a worker does it, this shows its progress."

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        # Django's own --version, which prints its version, gives way to ours.
        return super().create_parser(*args, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", help="name or slug of the data set")
        parser.add_argument("model", help="name of the registered model")
        parser.add_argument(
            "--split", choices=[s for s in Split.values if s], default=""
        )
        parser.add_argument(
            "--version", type=int, dest="number", help="default: the latest"
        )
        parser.add_argument("--wait", action=BooleanOptionalAction, default=True)

    def run(
        self,
        *,
        dataset: str,
        model: str,
        split: str,
        number: int | None,
        wait: bool,
        **options: Any,
    ) -> None:
        found = find_dataset(dataset)
        scan = start_scan(
            dataset=found,
            version=_version(find_model(found, model), number),
            split=split,
            trigger=Scan.Trigger.COMMAND,
            by=None,
        )
        self.stdout.write(
            f"Scan {scan.pk}: {scan.model_version} on {scan.samples:,} images of {found}"
        )
        if scan.for_record:
            self.stdout.write(
                "A newer version was scanned before: this one is for the record, with "
                "counts and outcomes but no findings."
            )
        # Asked before there is work: a worker that scans does not answer.
        queues = unserved_queues()
        enqueue_scan(scan)
        if queues:
            self.stdout.write(
                f"No worker answers for {' and '.join(queues)} now. One may be busy; if "
                "none runs, start them with: manage.py up. The scan waits."
            )
        if not wait:
            return
        try:
            print_result(wait_for(scan, self.stdout), self.stdout)
        except KeyboardInterrupt as error:
            raise CommandError(
                f"Scan {scan.pk} goes on without this command; its page shows it and "
                "can cancel it.",
                returncode=INTERRUPTED,
            ) from error


def _version(model: RegisteredModel, number: int | None) -> ModelVersion:
    version = (
        model.latest_version()
        if number is None
        else model.versions.filter(number=number).first()
    )
    if version is None:
        known = ", ".join(str(v.number) for v in model.versions.order_by("number"))
        raise CommandError(
            f"{model} has no such version. There are: {known or 'none'}."
        )
    return version
