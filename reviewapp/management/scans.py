"""Watching a scan from a terminal, and printing what it found."""

from __future__ import annotations

import subprocess
import time
from io import StringIO

from django.core.management.base import CommandError, OutputWrapper
from django.db.models import F
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reviewapp.management.meter import Meter
from reviewapp.models import Scan
from reviewapp.watching import Watch, recheck_line, unreadable_by_reason, watch

POLL_SECONDS = 0.3
ROWS = 10
FAILED = 1  # exit status of a scan that failed or was cancelled
PARTIAL = 3  # exit status of a scan some of whose parts are missing


def follow(
    scan: Scan, out: OutputWrapper, *, worker: subprocess.Popen[bytes] | None = None
) -> Scan:
    """Show the progress of a scan until it ended, and return it anew.

    Args:
        scan: Being worked on by others.
        out: Where to show it.
        worker: The process it depends on, if it is ours.

    Raises:
        CommandError: The worker died.
    """
    label, before = f"Scanning with {scan.model_version}", watch(scan).done
    with Meter(out, label, scan.samples, done=before) as meter:
        while scan.is_active:
            if worker is not None and worker.poll() is not None:
                raise CommandError(
                    f"The worker ended with status {worker.returncode}; {scan} is not "
                    "done. Its log says why."
                )
            seen = watch(scan)
            meter.reach(seen.done)
            meter.note(_note(seen))
            time.sleep(POLL_SECONDS * seen.poll_seconds)
            scan.refresh_from_db(fields=["state"])
        meter.reach(watch(scan).done)
    scan.refresh_from_db()
    return scan


def wait_for(
    scan: Scan, out: OutputWrapper, *, worker: subprocess.Popen[bytes] | None = None
) -> Scan:
    """Show the progress of a scan until it ended well, and return it anew.

    Raises:
        CommandError: As `follow` and `require_done` do.
    """
    ended = follow(scan, out, worker=worker)
    require_done(ended)
    return ended


def require_done(scan: Scan) -> None:
    """Raise unless a scan ended with all its parts.

    Raises:
        CommandError: It failed or was cancelled (status 1), or is partial (status 3).
    """
    if scan.is_done:
        return
    advice = ""
    if scan.state in scan.RESUMABLE and scan.model_version.has_checkpoint:
        advice = f"\nGo on with what is missing: manage.py scan --resume {scan.pk}"
    raise CommandError(
        f"Scan {scan.pk} {scan.state}: {scan.message}{advice}",
        returncode=PARTIAL if scan.state == Scan.State.PARTIAL else FAILED,
    )


def print_result(scan: Scan, out: OutputWrapper) -> None:
    """Print the top confusions of a finished or partial scan and the totals."""
    errors = scan.errors or 0
    if errors:
        _print_confusions(scan, out, errors)
    rate = 100 * errors / scan.readable if scan.readable else 0
    out.write(f"{errors:,} errors ({rate:.1f} %) in {scan.readable:,} images")
    if scan.unreadable:
        out.write(f"{scan.unreadable:,} more could not be read:")
        for reason, n in unreadable_by_reason(scan):
            out.write(f"  {n:,} x {reason}")
    _print_pace(scan, out)


def _print_confusions(scan: Scan, out: OutputWrapper, errors: int) -> None:
    rows = (
        scan.confusion_counts.exclude(true_label=F("predicted_label"))
        .select_related("true_label", "predicted_label")
        .order_by("-count", "true_label__name", "predicted_label__name")
    )
    table = Table("Actual", "Predicted")
    table.add_column("Count", justify="right")
    table.add_column("Share", justify="right")
    for row in rows[:ROWS]:
        share = f"{100 * row.count / errors:.1f} %"
        names = Text(row.true_label.name), Text(row.predicted_label.name)
        table.add_row(*names, f"{row.count:,}", share)
    text = StringIO()
    Console(file=text, width=100).print(table)
    out.write(text.getvalue().rstrip())
    if (more := rows.count() - ROWS) > 0:
        out.write(f"and {more:,} more confusions")


def _print_pace(scan: Scan, out: OutputWrapper) -> None:
    """Print how fast it was, what limits it and what rounding would have changed."""
    seen = watch(scan)
    if seen.rate and seen.elapsed:
        seconds = seen.elapsed.total_seconds()
        note = ", ".join(filter(None, [f"{seen.rate:,.1f} images/s", _note(seen)]))
        out.write(f"{seen.done:,} images in {seconds:,.1f} s: {note}")
    for line in (seen.limit, recheck_line(scan)):
        if line:
            out.write(line)


def _note(seen: Watch) -> str:
    """Return the device, the precision and the workers, as far as they are known."""
    named = [str(seen.pace[k]) for k in ("device", "precision") if seen.pace.get(k)]
    if seen.running > 1:
        named.append(f"{seen.running} workers")
    return ", ".join(named)
