"""manage.py scan: find a model's errors, and list them."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from typing import Any, get_args

from django.core.management.base import CommandError, CommandParser

from mining.types import Decode, Device, Precision, ScanSettings
from reviewapp.actions.scans import resume_scan, start_scan
from reviewapp.management.base import (
    INTERRUPTED,
    DomainCommand,
    find_dataset,
    find_model,
)
from reviewapp.management.processes import unserved_queues
from reviewapp.management.scans import follow, print_result, require_done
from reviewapp.models import ModelVersion, RegisteredModel, Scan, Split
from reviewapp.tasks import enqueue_scan

DEFAULTS = ScanSettings()
CHOICES = {"precision": Precision, "device": Device, "decode": Decode}
NUMBERS = {
    "batch_size": (int, "images in one forward pass; default: found by itself"),
    "workers": (int, "threads; default: one for each CPU"),
    "near_miss_below": (float, f"from 0 to 1; default: {DEFAULTS.near_miss_below}"),
    "shard_size": (int, f"images in a part; default: {DEFAULTS.shard_size}"),
}


class Command(DomainCommand):
    help = (
        "Scan a data set with a model; a worker does it, this shows its progress. "
        "Ends with status 0 when the scan is done, 1 when it failed or was cancelled, "
        "3 when it is partial: some parts are missing."
    )

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        # Django's own --version, which prints its version, gives way to ours.
        return super().create_parser(*args, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", nargs="?", help="name or slug of the data set")
        parser.add_argument("model", nargs="?", help="name of the registered model")
        parser.add_argument("--split", choices=[s for s in Split.values if s])
        parser.add_argument(
            "--version", type=int, dest="number", help="default: the latest"
        )
        parser.add_argument("--wait", action=BooleanOptionalAction, default=True)
        parser.add_argument(
            "--resume",
            type=int,
            metavar="SCAN",
            help="go on with what this partial, failed or cancelled scan lacks",
        )
        chosen = parser.add_argument_group("settings of the scan")
        for name, kind in CHOICES.items():
            chosen.add_argument(f"--{name}", choices=get_args(kind))
        for name, (number, told) in NUMBERS.items():
            chosen.add_argument(
                f"--{name.replace('_', '-')}", type=number, metavar="N", help=told
            )
        chosen.add_argument(
            "--compile",
            action="store_const",
            const=True,
            help="torch.compile: a slow first batch, then perhaps faster",
        )

    def run(self, *, resume: int | None, wait: bool, **options: Any) -> None:
        if resume is None:
            scan = self._start(**options)
        else:
            scan = _resume(resume, options)
            self.stdout.write(f"Scan {scan.pk} goes on: {scan.model_version}")
        # Asked before there is work: a worker that scans does not answer.
        queues = unserved_queues()
        enqueue_scan(scan)
        if queues:
            self.stdout.write(
                f"No worker answers for {' and '.join(queues)} now. One may be busy; if "
                "none runs, start them with: manage.py up. The scan waits."
            )
        if wait:
            self._see_through(scan)

    def _start(
        self,
        *,
        dataset: str,
        model: str,
        split: str,
        number: int | None,
        **options: Any,
    ) -> Scan:
        if not model:
            raise CommandError("Name a data set and a model, or a scan to --resume.")
        found = find_dataset(dataset)
        scan = start_scan(
            dataset=found,
            version=_version(find_model(found, model), number),
            split=split or "",
            settings=_settings(options),
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
        return scan

    def _see_through(self, scan: Scan) -> None:
        try:
            scan = follow(scan, self.stdout)
        except KeyboardInterrupt as error:
            raise CommandError(
                f"Scan {scan.pk} goes on without this command; its page shows it and "
                "can cancel it.",
                returncode=INTERRUPTED,
            ) from error
        if scan.is_done or scan.state == Scan.State.PARTIAL:
            print_result(scan, self.stdout)
        require_done(scan)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    names = (*CHOICES, *NUMBERS, "compile")
    return {name: options[name] for name in names if options[name] is not None}


def _resume(scan_id: int, options: dict[str, Any]) -> Scan:
    named = [
        name for name in ("dataset", "split", "number") if options[name] is not None
    ]
    if named or _settings(options):
        raise CommandError(
            "A scan is resumed as it was started: --resume takes nothing but --no-wait."
        )
    scan = Scan.objects.with_names().filter(pk=scan_id).first()
    if scan is None:
        raise CommandError(f"There is no scan {scan_id}.")
    return resume_scan(scan=scan, by=None)


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
