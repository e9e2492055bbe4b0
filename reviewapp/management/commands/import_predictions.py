"""manage.py import_predictions: a scan from predictions that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.files import File
from django.core.management.base import CommandError, CommandParser

from reviewapp.actions.imports import request_import
from reviewapp.management.base import DomainCommand, find_dataset, find_user
from reviewapp.management.imports import import_here, read_classes
from reviewapp.management.scans import print_result
from reviewapp.models import Split


class Command(DomainCommand):
    help = (
        "Check a Parquet, CSV, JSONL or NPZ file of predictions and record it as a scan; "
        "a file with bad rows is refused, with a report."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", help="name or slug of the data set")
        parser.add_argument("file", type=Path, help="read where it is, by this process")
        parser.add_argument(
            "--model",
            required=True,
            metavar="NAME",
            help="the registered model that made them; a new name makes one",
        )
        parser.add_argument(
            "--split", choices=[s for s in Split.values if s], default=""
        )
        parser.add_argument(
            "--classes",
            type=Path,
            metavar="FILE",
            help="JSON list: the order of the probabilities, if the file has no names",
        )
        parser.add_argument(
            "--near-miss-below", type=float, default=0.6, metavar="P", help="0 to 1"
        )
        parser.add_argument(
            "--folds",
            type=int,
            default=0,
            metavar="K",
            help="out-of-fold predictions of the train split, made by K models",
        )
        parser.add_argument(
            "--allow-partial",
            action="store_true",
            help="leave bad rows out; samples without a row count as unreadable",
        )
        parser.add_argument("--by", metavar="USER", help="for the record")

    def run(
        self,
        *,
        dataset: str,
        file: Path,
        model: str,
        by: str | None,
        classes: Path | None,
        **options: Any,
    ) -> None:
        chosen = find_dataset(dataset)
        if not 0 <= options["near_miss_below"] <= 1:
            raise CommandError("--near-miss-below must be from 0 to 1.")
        try:
            with file.open("rb") as stream:
                job = request_import(
                    dataset=chosen,
                    file=File(stream, name=file.name),
                    model=model,
                    by=find_user(by) if by else None,
                    split=options["split"],
                    classes=read_classes(classes),
                    near_miss_below=options["near_miss_below"],
                    allow_partial=options["allow_partial"],
                    folds=options["folds"],
                    keep=False,
                )
        except OSError as error:
            raise CommandError(
                f"{file} cannot be read: {error.strerror or error}."
            ) from error
        scan = import_here(job, file, self.stdout)
        self.stdout.write(
            f"Scan {scan.pk}: {scan.model_version} on {scan.samples:,} images of {chosen}"
        )
        print_result(scan, self.stdout)
