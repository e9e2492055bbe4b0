"""Analyses of finished scans: asked for, made once by a worker, kept."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone

from reviewapp.actions.makings import ask_again, make, requeue_silent
from reviewapp.analysing import slices_of, thresholds_of
from reviewapp.exceptions import Refused
from reviewapp.models import Analysis, Scan
from reviewapp.models.events import record
from reviewapp.persistence import waiting_for_nobody

if TYPE_CHECKING:
    from reviewapp.models import User

State, What = Analysis.State, Analysis.What
LATELY: Final = timedelta(days=1)  # what is older is analysed when somebody asks


def start_analyses(*, scan: Scan, by: User | None) -> list[Analysis]:
    """Queue both analyses of a scan, or queue them again; the caller enqueues them.

    What was found before stays until the new one is done. One that is being made already
    is left to it.

    Raises:
        Refused: The scan is not done.
    """
    if not scan.is_done or not scan.artefact:
        raise Refused(
            f"Scan {scan.pk} is {scan.state}. Nothing was computed. Wait until it is "
            "done, or resume it."
        )
    now = timezone.now()
    asked = {"requested_by": by, "requested_at": now}
    with transaction.atomic():
        Analysis.objects.bulk_create(
            [Analysis(scan=scan, what=what, **asked) for what in What],
            ignore_conflicts=True,
        )
        ask_again(rows=scan.analyses.all(), by=by, at=now)
        record("analysis started", scan, dataset=scan.dataset, actor=by)
    return list(scan.analyses.lean().order_by("-what"))  # thresholds are quick


def analyse_new_scans() -> list[int]:
    """Queue the analyses of scans that ended lately and return the ids to enqueue.

    Two callers at once return the same ones; a worker claims each once. Who would have
    to wait for another one leaves it to them, or to the next sweep: that one may hang.
    """
    now = timezone.now()
    new = (
        Scan.objects.finished()
        .filter(finished_at__gt=now - LATELY, analyses=None)
        .exclude(artefact="")
    )
    scans = list(new.values_list("pk", flat=True))
    rows = [
        Analysis(scan_id=scan, what=what, requested_at=now)
        for scan in scans
        for what in What
    ]
    with waiting_for_nobody(f"the analyses of scans {scans}"):
        Analysis.objects.bulk_create(rows, ignore_conflicts=True)
    made = Analysis.objects.filter(scan__in=scans, state=State.QUEUED)
    return list(made.order_by("-what", "pk").values_list("pk", flat=True))


def requeue_silent_analyses() -> list[int]:
    """Give analyses of dead workers back and return the ids to enqueue again."""
    return requeue_silent(kind=Analysis)


def run_analysis(*, analysis: Analysis) -> Analysis:
    """Compute an analysis and keep what was found, or why it could not be done.

    Does nothing unless the analysis is queued.
    """
    return make(making=analysis, outcome=lambda _: _outcome(analysis))


def _outcome(analysis: Analysis) -> dict[str, Any]:
    """Return the columns that a run sets."""
    if analysis.what == What.SLICES:
        return {"figures": slices_of(analysis.scan)}
    figures, counts = thresholds_of(analysis.scan)
    return {"figures": figures, "counts": counts}
