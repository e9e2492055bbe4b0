"""Reports of training runs: made once by a worker when the scans are done, kept."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.utils import timezone

from reviewapp.actions.makings import ask_again, make, requeue_silent
from reviewapp.actions.telling import tell_of_report
from reviewapp.exceptions import Refused
from reviewapp.models import Report, Scan, TrainingRun
from reviewapp.models.events import record
from reviewapp.persistence import waiting_for_nobody
from reviewapp.proving import waits_for
from reviewapp.reporting import figures_of

if TYPE_CHECKING:
    from reviewapp.models import User

State = Report.State
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
        same = Report.objects.filter(pk=report.pk)
        again = ask_again(rows=same, by=by, at=now)
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
    """Give reports of dead workers back and return the ids to enqueue again."""
    return requeue_silent(kind=Report, then=_tell)


def run_report(*, report: Report) -> Report:
    """Make a report, keep what it says, or why it could not be made, and tell of it.

    Does nothing unless the report is queued.
    """
    return make(
        making=report,
        outcome=lambda _: {"figures": figures_of(report.run)},
        then=_tell,
    )


def _tell(report: Report) -> None:
    tell_of_report(report=report)
