"""manage.py register_dataset: bring a data set in, or up to date."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from mining.sources import resolve_under_roots
from reviewapp.actions.datasets import register_dataset
from reviewapp.management.base import DomainCommand, find_user
from reviewapp.management.registering import queue_again, register_here
from reviewapp.models import Dataset, Registration, User


class Command(DomainCommand):
    help = "Bring in a data set, or read one again whose images or labels changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("root", help="folder or URL under a configured root")
        parser.add_argument(
            "--manifest", default="", help="CSV, JSONL or Parquet file under the root"
        )
        parser.add_argument(
            "--by", required=True, metavar="USER", help="who becomes its admin"
        )

    def run(
        self, *, name: str, root: str, manifest: str, by: str, **options: Any
    ) -> None:
        user = find_user(by)
        registration = register_here(_queue(name, root, manifest, user), self.stdout)
        self.stdout.write(
            f"{registration.dataset}: {registration.total:,} samples, "
            f"{registration.added:,} added, {registration.changed:,} changed, "
            f"{registration.removed:,} removed, {registration.relabelled:,} relabelled, "
            f"{registration.unreadable:,} unreadable"
        )


def _queue(name: str, root: str, manifest: str, user: User) -> Registration:
    dataset = Dataset.objects.filter(name=name).first()
    if dataset is None:
        return register_dataset(name=name, root=root, manifest=manifest, by=user)
    given = resolve_under_roots(
        root, settings.DATA_ROOTS, setting="HARDMINE_DATA_ROOTS"
    )
    if (given, manifest) != (dataset.root, dataset.manifest):
        source = f"{dataset.root} {dataset.manifest}".strip()
        raise CommandError(
            f"{name} was registered from {source}. Nothing was changed. Give that place "
            "to read it again, or another name for another data set."
        )
    return queue_again(dataset, user)
