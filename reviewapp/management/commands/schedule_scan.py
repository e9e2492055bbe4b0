"""manage.py schedule_scan: scans that start by themselves."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from reviewapp.actions.schedules import schedule_scan, unschedule
from reviewapp.management.base import DomainCommand, find_dataset, find_model
from reviewapp.models import Dataset, RegisteredModel, Schedule, Split


class Command(DomainCommand):
    help = (
        "Scan the latest version of a model again and again; the scheduler starts it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", nargs="?", help="name or slug of the data set")
        parser.add_argument("model", nargs="?", help="name of the registered model")
        parser.add_argument(
            "--split", choices=[s for s in Split.values if s], default=""
        )
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--cron", help="minute hour day month weekday: '0 2 * * *'")
        what.add_argument("--list", action="store_true", help="list every schedule")
        what.add_argument("--remove", action="store_true", help="stop scanning")

    def run(
        self,
        *,
        dataset: str | None,
        model: str | None,
        split: str,
        cron: str | None,
        **options: Any,
    ) -> None:
        if options["list"]:
            self._list()
            return
        if not dataset or not model:
            raise CommandError("Name the data set and the model.")
        found = find_dataset(dataset)
        chosen = find_model(found, model)
        if cron:
            schedule = schedule_scan(
                dataset=found, model=chosen, cron=cron, split=split, by=None
            )
            self.stdout.write(f"Scheduled: {_describe(schedule)}")
        else:
            self._remove(found, chosen, split)

    def _list(self) -> None:
        schedules = Schedule.objects.select_related("dataset", "registered_model")
        for schedule in schedules.order_by("dataset__name", "registered_model__name"):
            self.stdout.write(_describe(schedule))
            if schedule.last_message:
                self.stdout.write(f"  {schedule.last_message}")
        if not schedules:
            self.stdout.write("Nothing is scheduled.")

    def _remove(self, dataset: Dataset, model: RegisteredModel, split: str) -> None:
        schedule = Schedule.objects.filter(
            dataset=dataset, registered_model=model, split=split
        ).first()
        if schedule is None:
            raise CommandError(
                f"No scan of {model} on {dataset} is scheduled for "
                f"{split or 'every sample'}. See: manage.py schedule_scan --list"
            )
        description = _describe(schedule)
        unschedule(schedule=schedule, by=None)
        self.stdout.write(f"Removed: {description}")


def _describe(schedule: Schedule) -> str:
    off = "" if schedule.enabled else " (switched off)"
    return (
        f"{schedule.registered_model} on {schedule.dataset}, "
        f"{schedule.split or 'every sample'}, at '{schedule.cron}'{off}"
    )
