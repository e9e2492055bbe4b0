"""The report of a training run: what it says, and what it is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods
from django_htmx.http import HttpResponseClientRefresh

from mining.credit import NO_CAUSE
from mining.proof import LABELS, SUBSETS
from reviewapp.access import access_dataset, access_one
from reviewapp.actions.reports import start_report
from reviewapp.models import Cause, Dataset, Report, Review, Scan, TrainingRun, Undo
from reviewapp.proving import waits_for
from reviewapp.tasks import enqueue_report
from reviewapp.views.requests import UserRequest

ROWS: Final = 50  # of confusions, of what each bought
NAMES: Final = {
    "untouched": "Nobody reviewed or trained on them",
    "reviewed": "Reviewed",
    "whole": "All of them",
}
CAUSES: Final = dict(Cause.choices) | {NO_CAUSE: "no cause named"}


@dataclass(frozen=True, slots=True)
class Bars:
    """One confusion of the chart; widths are 0-100, of the longest bar."""

    actual: str
    predicted: str
    before: int
    after: int
    p: float
    adjusted: float
    is_claimed: bool
    before_width: float
    after_width: float


@dataclass(frozen=True, slots=True)
class Moved:
    """The rows of a table that are not all zero.

    Attributes:
        rows: The first of them.
        total: How many there are.
        unmoved: How many others are all zero.
    """

    rows: list[dict[str, Any]]
    total: int
    unmoved: int

    @classmethod
    def of(cls, rows: list[dict[str, Any]]) -> Moved:
        """Sort out the rows of a credit."""
        said = ("bought", "control", "fixed", "broken")
        moved = [row for row in rows if any(row.get(name) for name in said)]
        return cls(moved[:ROWS], len(moved), len(rows) - len(moved))


@require_http_methods(["GET", "POST"])
def detail(request: UserRequest, slug: str, run_id: int) -> HttpResponse:
    """Show a run's report; a POST has it made, or made again."""
    dataset = access_dataset(request.user, slug)
    run = _run(dataset, run_id)
    if request.method == "POST":
        enqueue_report(start_report(run=run, by=request.user))
        return redirect("report-detail", dataset.slug, run.pk)
    report = Report.objects.filter(run=run).first()
    if request.htmx:
        return _poll(report)
    context: dict[str, Any] = {
        "dataset": dataset,
        "run": run,
        "report": report,
        "waits_for": "" if report else waits_for(run),
    }
    if report and report.figures:
        context |= _tables(report.figures) | {
            "scans": _scans(dataset, report.figures["scans"]),
            "is_stale": _is_stale(dataset, report),
        }
    return render(request, "reports/detail.html", context)


@require_GET
def download(request: UserRequest, slug: str, run_id: int) -> HttpResponse:
    """Return the figures of a run's report as a JSON file."""
    dataset = access_dataset(request.user, slug)
    report = access_one(Report.objects.all(), run=_run(dataset, run_id))
    name = f"report-{dataset.slug}-{run_id}.json"
    return JsonResponse(
        report.figures,
        json_dumps_params={"indent": 2, "ensure_ascii": False},
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _run(dataset: Dataset, run_id: int) -> TrainingRun:
    runs = TrainingRun.objects.for_dataset(dataset).with_names()
    return access_one(runs.filter(control_of=None), pk=run_id)


def _poll(report: Report | None) -> HttpResponse:
    """Answer a page that waits for a report."""
    if report and not report.is_active:
        return HttpResponseClientRefresh()
    return HttpResponse(status=204)


def _is_stale(dataset: Dataset, report: Report) -> bool:
    """Whether a verdict was given or taken back since the report was made."""
    reviews = Review.objects.for_dataset(dataset)
    last = reviews.newest_first().values_list("created_at", flat=True).first()
    undone = Undo.objects.filter(review__in=reviews).order_by("-id")
    undo = undone.values_list("created_at", flat=True).first()
    made = report.finished_at
    return made is not None and any(at > made for at in (last, undo) if at)


def _scans(dataset: Dataset, ids: dict[str, int | None]) -> list[tuple[str, Scan]]:
    """Return the scans of a report that are still there, with what each is."""
    there = (
        Scan.objects.for_dataset(dataset)
        .lean()
        .in_bulk([pk for pk in ids.values() if pk])
    )
    # Named in this order: the database keeps a JSON object's keys in its own.
    found = [
        (name, there.get(ids[name] or 0)) for name in ("before", "after", "control")
    ]
    return [(name.capitalize(), scan) for name, scan in found if scan]


def _tables(figures: dict[str, Any]) -> dict[str, Any]:
    subsets = figures["labels"]["corrected"]
    kinds = LABELS if figures["relabelled"] else LABELS[:1]
    credit = figures["credit"]
    return {
        "figures": figures,
        "untouched": subsets.get("untouched"),
        "kinds": [
            (
                kind,
                [
                    (NAMES[subset], figures["labels"][kind][subset])
                    for subset in SUBSETS
                    if subset in figures["labels"][kind]
                ],
            )
            for kind in kinds
        ],
        "bars": _bars(subsets.get("untouched") or {"claimed": [], "others": []}),
        "reviewed_bars": _bars(subsets.get("reviewed", {"claimed": [], "others": []})),
        "credited": credit and Moved.of(credit["confusions"]),
        "causes": credit
        and Moved.of(
            [
                row | {"name": CAUSES.get(row["cause"], row["cause"])}
                for row in credit["causes"]
            ]
        ),
    }


def _bars(part: dict[str, Any]) -> list[Bars]:
    # What nobody got wrong, before or after, says nothing.
    claimed = [row for row in part["claimed"] if any(row[2:4])][:ROWS]
    others = part["others"]
    longest = max((max(row[2:4]) for row in [*claimed, *others]), default=0) or 1
    return [
        Bars(
            actual=actual,
            predicted=predicted,
            before=before,
            after=after,
            p=p,
            adjusted=adjusted,
            is_claimed=is_claimed,
            before_width=round(100 * before / longest, 2),
            after_width=round(100 * after / longest, 2),
        )
        for is_claimed, rows in ((True, claimed), (False, others))
        for actual, predicted, before, after, p, adjusted in rows
    ]
