"""Importing a file in this process, and printing what is wrong with it."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, OutputWrapper
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mining.predictions import BadPredictions, read_class_order
from reviewapp.actions.imports import abandon_import
from reviewapp.importing import run_import
from reviewapp.management.meter import Meter
from reviewapp.models import Import, Scan

ROWS_PRINTED = 20


def read_classes(path: Path | None) -> list[str]:
    """Return the class order in a JSON file; none without one.

    Raises:
        BadPredictions: It cannot be read, or is no list of names.
    """
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            return read_class_order(path.name, file)
    except OSError as error:
        raise BadPredictions(str(path), f"{error.strerror or error}.") from error


def import_here(job: Import, path: Path, out: OutputWrapper) -> Scan:
    """Run a queued import and return its scan, done.

    Raises:
        CommandError: The file was refused, its report is printed, or the import failed.
    """
    try:
        with Meter(out, f"Reading {job.file_name}", None) as meter:
            ended = run_import(
                import_id=job.pk, path=path, on_progress=lambda j: meter.reach(j.rows)
            )
    except BaseException:  # Ctrl-C too: what is not running must not look as if it were
        abandon_import(import_id=job.pk, message="Interrupted. Import the file again.")
        raise
    if ended is None:
        raise CommandError(f"{job} is run by another process.")
    print_report(ended.report, out)
    if ended.state != Import.State.DONE or ended.scan is None:
        raise CommandError(f"{path} was not imported: {ended.message}")
    if ended.scan.message:
        out.write(ended.scan.message)
    return ended.scan


def print_report(report: dict[str, Any], out: OutputWrapper) -> None:
    """Print how many rows are bad in which way, and the first of them."""
    if not report.get("counts"):
        return
    table = Table("What is wrong", "Row", "Key", "Why")
    for kind, count in report["counts"].items():
        entries = report["listed"].get(kind, [])[:ROWS_PRINTED]
        for entry in entries:
            row = "" if entry["row"] is None else f"{entry['row']:,}"
            table.add_row(kind, row, Text(entry["key"]), Text(entry["reason"]))
        if count > len(entries):
            table.add_row(kind, "", "", f"and {count - len(entries):,} more")
    text = StringIO()
    Console(file=text, width=100).print(table)
    out.write(text.getvalue().rstrip())
