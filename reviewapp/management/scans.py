"""Watching a scan from a terminal, and printing what it found."""

from __future__ import annotations

import subprocess
import time
from io import StringIO

from django.core.management.base import CommandError, OutputWrapper
from django.db.models import F, Sum
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reviewapp.management.meter import Meter
from reviewapp.models import Scan

POLL_SECONDS = 0.3
ROWS = 10


def wait_for(
    scan: Scan, out: OutputWrapper, *, worker: subprocess.Popen[bytes] | None = None
) -> Scan:
    """Show the progress of a scan until it ended well, and return it anew.

    Args:
        scan: Being worked on by others.
        out: Where to show it.
        worker: The process it depends on, if it is ours.

    Raises:
        CommandError: The scan failed or was cancelled, or the worker died.
    """
    with Meter(out, f"Scanning with {scan.model_version}", scan.samples) as meter:
        while scan.is_active:
            if worker is not None and worker.poll() is not None:
                raise CommandError(
                    f"The worker ended with status {worker.returncode}; {scan} is not "
                    "done. Its log says why."
                )
            time.sleep(POLL_SECONDS)
            meter.reach(scan.shards.aggregate(n=Sum("samples_done"))["n"] or 0)
            scan.refresh_from_db(fields=["state"])
    scan.refresh_from_db()
    if not scan.is_done:
        raise CommandError(f"Scan {scan.pk} {scan.state}: {scan.message}")
    return scan


def print_result(scan: Scan, out: OutputWrapper) -> None:
    """Print the top confusions of a finished scan and the totals."""
    rows = (
        scan.confusion_counts.exclude(true_label=F("predicted_label"))
        .select_related("true_label", "predicted_label")
        .order_by("-count", "true_label__name", "predicted_label__name")
    )
    errors = scan.errors or 0
    table = Table("Actual", "Predicted")
    table.add_column("Count", justify="right")
    table.add_column("Share", justify="right")
    for row in rows[:ROWS]:
        share = f"{100 * row.count / errors:.1f} %"
        names = Text(row.true_label.name), Text(row.predicted_label.name)
        table.add_row(*names, f"{row.count:,}", share)
    if errors:
        text = StringIO()
        Console(file=text, width=100).print(table)
        out.write(text.getvalue().rstrip())
        if (more := rows.count() - ROWS) > 0:
            out.write(f"and {more:,} more confusions")
    rate = 100 * (scan.error_rate or 0)
    out.write(f"{errors:,} errors ({rate:.1f} %) in {scan.readable:,} images")
    if scan.unreadable:
        out.write(
            f"{scan.unreadable:,} more could not be read; the scan's page says why"
        )
