"""Reports of training runs: made once by a worker when the scans are done, kept."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from reviewapp.exceptions import Refused, plain_message
from reviewapp.models import Report, Scan, TrainingRun
from reviewapp.models.events import record
from reviewapp.persistence import waiting_for_nobody
from reviewapp.proving import waits_for
from reviewapp.reporting import figures_of

if TYPE_CHECKING:
    from reviewapp.models import User

logger = logging.getLogger(__name__)

State = Report.State
LEASE: Final = timedelta(minutes=15)  # as long as a comparison has
LATELY: Final = timedelta(days=30)  # what is older is made when somebody asks


def start_report(*, run: TrainingRun, by: User | None) -> Report:
    """Queue the report of a run, or queue it again; the caller enqueues `run_report`.

    What it said before stays until the new one is done. One that is being made already
    is returned as it is.

    Raises:
        Refused: The run is a control, or one of its scans is not done.
    """
    if run.is_control:
        raise Refused(
            f"{run} is a control. The report of {run.control_of} has what it brought."
        )
    if why := waits_for(run):
        raise Refused(why)
    now = timezone.now()
    with transaction.atomic():
        report, is_new = Report.objects.get_or_create(
            run=run, defaults={"requested_by": by, "requested_at": now}
        )
        again = (
            Report.objects.idle()
            .filter(pk=report.pk)
            .update(state=State.QUEUED, message="", requested_by=by, requested_at=now)
        )
        if is_new or again:
            record("report started", run, dataset=run.dataset, actor=by)
    report.refresh_from_db()
    return report


def report_new_runs() -> list[int]:
    """Queue the reports of runs whose scans are all done and return the ids to enqueue.

    Two callers at once return the same ones; a worker claims each once.
    """
    now = timezone.now()
    new = TrainingRun.objects.with_names().filter(
        state=TrainingRun.State.DONE,
        control_of=None,
        report=None,
        verifying_scan__state=Scan.State.DONE,
        finished_at__gt=now - LATELY,
    )
    runs = [run.pk for run in new if not waits_for(run)]
    if not runs:
        return []
    rows = [Report(run_id=run, requested_at=now) for run in runs]
    with waiting_for_nobody(f"the reports of training runs {runs}"):
        Report.objects.bulk_create(rows, ignore_conflicts=True)
    made = Report.objects.filter(run__in=runs, state=State.QUEUED)
    return list(made.order_by("pk").values_list("pk", flat=True))


def requeue_silent_reports() -> list[int]:
    """Give reports of dead workers back and return the ids to enqueue again.

    Those that wait longer than a shard's lease are among them: their message may be lost.
    """
    now = timezone.now()
    running = Report.objects.filter(state=State.RUNNING)
    running.filter(heartbeat_at__lt=now - LEASE).update(state=State.QUEUED)
    lost = now - timedelta(seconds=settings.SHARD_LEASE_SECONDS)
    waiting = Report.objects.filter(state=State.QUEUED, requested_at__lt=lost)
    return list(waiting.order_by("pk").values_list("pk", flat=True))


def run_report(*, report: Report) -> Report:
    """Make a report and keep what it says, or why it could not be made.

    Does nothing unless the report is queued.
    """
    mine = timezone.now()
    claimed = Report.objects.filter(pk=report.pk, state=State.QUEUED).update(
        state=State.RUNNING, heartbeat_at=mine
    )
    if claimed:
        # One that was given up, but lives on, must not write over its successor.
        held = Report.objects.filter(
            pk=report.pk, state=State.RUNNING, heartbeat_at=mine
        )
        held.update(**_outcome(report), finished_at=timezone.now())
    report.refresh_from_db()
    return report


def _outcome(report: Report) -> dict[str, Any]:
    """Return the columns that a run sets."""
    try:
        figures = figures_of(report.run)
    except Exception as error:
        logger.exception("%s failed", report)
        return {"state": State.FAILED, "message": plain_message(error)}
    return {"state": State.DONE, "message": "", "figures": figures}
