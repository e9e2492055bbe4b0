"""manage.py register_model: the next version of a model."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from reviewapp.actions.registry import register_version
from reviewapp.management.base import DomainCommand, find_dataset


class Command(DomainCommand):
    help = "Register a checkpoint as the next version of a model."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", help="name or slug of the data set")
        parser.add_argument("name", help="of the model; a new one is made when needed")
        parser.add_argument("checkpoint", help="file or URL under a configured root")
        parser.add_argument("--note", default="")

    def run(
        self, *, dataset: str, name: str, checkpoint: str, note: str, **options: Any
    ) -> None:
        version = register_version(
            dataset=find_dataset(dataset),
            name=name,
            checkpoint=checkpoint,
            note=note,
            by=None,
        )
        self.stdout.write(f"{version} is {version.checkpoint} ({version.digest[:12]})")
