"""manage.py export_fix_set: a fix set as a file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage
from django.core.management.base import CommandError, CommandParser

from reviewapp.actions.exports import request_export, run_export
from reviewapp.management.base import (
    DomainCommand,
    find_dataset,
    find_fix_set,
    find_user,
)
from reviewapp.models import Export


class Command(DomainCommand):
    help = "Write a frozen fix set to a file; the same set always gives the same bytes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("dataset", help="name or slug of the data set")
        parser.add_argument("fix_set", help="name of the fix set")
        parser.add_argument(
            "--format", choices=Export.Format.values, default=Export.Format.CSV
        )
        parser.add_argument("--output", type=Path, required=True, metavar="FILE")
        parser.add_argument(
            "--by", metavar="USER", help="for the record; default: who froze the set"
        )

    def run(
        self,
        *,
        dataset: str,
        fix_set: str,
        output: Path,
        by: str | None,
        **options: Any,
    ) -> None:
        chosen = find_fix_set(find_dataset(dataset), fix_set)
        user = find_user(by) if by else chosen.created_by
        export = request_export(fix_set=chosen, format=options["format"], by=user)
        run_export(export=export)
        if export.state != Export.State.DONE:
            raise CommandError(f"{chosen} was not exported: {export.message}")
        _copy(export.file, output)
        self.stdout.write(
            f"{output}: {chosen.size:,} samples, {export.size:,} bytes, "
            f"SHA-256 {export.sha256}"
        )


def _copy(name: str, output: Path) -> None:
    partial = output.with_name(f".{output.name}.part")
    try:
        with default_storage.open(name) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target)
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CommandError(
            f"{output} could not be written: {error}. What was there is kept, and the "
            f"export is kept as {name}. Make room or choose another place."
        ) from error
