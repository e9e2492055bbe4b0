"""Where people land: their data sets, one data set at a glance, and the health check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from redis import RedisError

from reviewapp.access import access_dataset
from reviewapp.actions.known import DECIDED
from reviewapp.kinds import kind_of
from reviewapp.models import Dataset, Event, Finding, Registration, Scan, Standing
from reviewapp.models.people import role_on
from reviewapp.views.requests import UserRequest

if TYPE_CHECKING:
    from reviewapp.models.findings import FindingQuerySet
    from reviewapp.models.scans import ScanQuerySet

RowT = TypeVar("RowT", Scan, Registration)

CHART_SCANS = 60
TOP_CONFUSIONS = 10
EVENTS = 12
COUNTED = 10_000  # findings of one verdict; more are shown as "over 10,000"
ACCURACY_SPAN = 10  # percentage points that the chart shows at least
SERIES_COLOURS = ("accent", "good", "warn", "bad", "info", "muted")


@dataclass(frozen=True, slots=True)
class Card:
    """One data set on the first page."""

    dataset: Dataset
    scan: Scan | None  # the last that counts and is done
    active: Scan | None
    registration: Registration | None
    waiting: int  # errors without a verdict


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left to review and what is behind; numbers of findings."""

    errors: int
    near_misses: int
    reviewed: int  # with a standing verdict, flags and disputes included
    by_verdict: str  # in words


@require_GET
def home(request: UserRequest) -> HttpResponse:
    """Show a card for each data set of the person."""
    scans = Scan.objects.visible_to(request.user)
    last = scans.finished().counted().newest_per_dataset()
    last_scans = _by_dataset(last.with_names())
    active = _by_dataset(scans.active().newest_per_dataset().with_names())
    registrations = _by_dataset(
        Registration.objects.visible_to(request.user).newest_per_dataset()
    )
    visible = Dataset.objects.visible_to(request.user)
    waiting = Standing.objects.filter(dataset__in=visible).waiting_by_kind()
    cards = [
        Card(
            dataset=dataset,
            scan=last_scans.get(dataset.pk),
            active=active.get(dataset.pk),
            registration=registrations.get(dataset.pk),
            waiting=waiting.get((dataset.pk, Finding.Kind.MISCLASSIFIED), 0),
        )
        for dataset in visible.with_size().by_name()
    ]
    return render(request, "dashboard/home.html", {"cards": cards})


def _by_dataset(rows: Iterable[RowT]) -> dict[int, RowT]:
    return {row.dataset_id: row for row in rows}


@require_GET
def dataset(request: UserRequest, slug: str) -> HttpResponse:
    """Show one data set at a glance: how good the model is and what is left to do."""
    dataset = access_dataset(request.user, slug)
    scans = Scan.objects.for_dataset(dataset).newest_first()
    finished = list(
        scans.finished().counted().with_names().with_control()[:CHART_SCANS]
    )
    last = next((scan for scan in finished if not _is_control(scan)), None)
    newest = scans.with_names().with_progress().with_control().first()
    registrations = Registration.objects.for_dataset(dataset).newest_first()
    events = Event.objects.for_dataset(dataset).newest_first()
    context = {
        "dataset": dataset,
        "role": role_on(request.user, dataset),
        "registration": registrations.first(),
        "registered": registrations.done().first(),
        "newest": newest,
        "newest_counted": _counted(newest, scans),
        "last": last,
        "kind": last and kind_of(last),
        "previous": _same_kind_before(last, finished) if last else None,
        "has_models": bool(last) or dataset.registered_models.exists(),
        "scans": finished,
        "figure": _figure(finished[::-1]),
        "confusions": last.confusion_counts.all().top(TOP_CONFUSIONS) if last else [],
        "backlog": _backlog(dataset),
        "events": events.select_related("actor")[:EVENTS],
    }
    return render(request, "dashboard/dataset.html", context)


def _counted(newest: Scan | None, scans: ScanQuerySet) -> Scan | None:
    """Return the last scan that is neither for the record nor of a control, if any is.

    Args:
        newest: The last one, with `is_control`; None: there is none.
        scans: All, the latest first.
    """
    if newest is None or not (newest.for_record or _is_control(newest)):
        return newest
    return scans.counted().without_controls().with_names().first() or newest


def _is_control(scan: Scan) -> bool:
    said: bool = scan.is_control  # type: ignore[attr-defined]  # by `with_control`
    return said


def _same_kind_before(last: Scan, scans: list[Scan]) -> Scan | None:
    """Return the scan before of the same model and kind: only these compare."""
    same = (s for s in scans if s.pk < last.pk and _series(s) == _series(last))
    return next(same, None)


def _backlog(dataset: Dataset) -> Backlog:
    standings = Standing.objects.for_dataset(dataset).order_by().values_list("kind")
    sums = standings.annotate(waiting=Sum("waiting"), reviewed=Sum("reviewed"))
    by_kind = {kind: rest for kind, *rest in sums}
    nothing = (0, 0)
    return Backlog(
        errors=by_kind.get(Finding.Kind.MISCLASSIFIED, nothing)[0],
        near_misses=by_kind.get(Finding.Kind.NEAR_MISS, nothing)[0],
        reviewed=sum(reviewed for _, reviewed in by_kind.values()),
        by_verdict=_by_verdict(Finding.objects.for_dataset(dataset)),
    )


def _by_verdict(findings: FindingQuerySet) -> str:
    """Say how many findings have each verdict; the standings do not know it."""
    parts = []
    for state in DECIDED:
        n = findings.filter(review_state=state).count_up_to(COUNTED + 1)
        said = f"over {COUNTED:,}" if n > COUNTED else f"{n:,}"
        parts.append(f"{said} {state.label}")
    return ", ".join(parts)


def _series(scan: Scan) -> str:
    """Return what makes two accuracies comparable: the model and the kind of scan."""
    return f"{scan.model_version.registered_model.name}, {kind_of(scan)}"


def _figure(scans: list[Scan]) -> dict[str, object]:
    """Return accuracy (above) and errors (below) by scan, the oldest first."""
    series: dict[str, list[Scan]] = {}
    for scan in scans:
        if scan.accuracy is not None:
            series.setdefault(_series(scan), []).append(scan)
    traces: list[dict[str, object]] = []
    for n, (name, members) in enumerate(series.items()):
        look: dict[str, object] = {
            "x": [f"#{scan.pk}" for scan in members],
            "text": [str(scan.model_version) for scan in members],
            "name": name,
            "legendgroup": name,
            "color": SERIES_COLOURS[n % len(SERIES_COLOURS)],
        }
        traces.append(
            {
                **look,
                "y": [100 * (scan.accuracy or 0) for scan in members],
                "mode": "lines+markers",
                "cliponaxis": False,
                "hovertemplate": "%{text}: %{y:.1f} %<extra></extra>",
            }
        )
        traces.append(
            {
                **look,
                "y": [scan.errors for scan in members],
                "type": "bar",
                "yaxis": "y2",
                "textposition": "none",
                "showlegend": False,
                "hovertemplate": "%{y} errors<extra></extra>",
            }
        )
    order = [f"#{scan.pk}" for scan in scans]
    known = [100 * scan.accuracy for scan in scans if scan.accuracy is not None]
    span = accuracy_span(known)
    return {"traces": traces, "layout": _layout(order, span, named=len(series) > 1)}


def accuracy_span(accuracies: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the accuracy axis: all points, some room, at least 10 wide.

    Args:
        accuracies: In percent, 0-100; none gives the whole axis.
    """
    if not accuracies:
        return 0.0, 100.0
    low, high = min(accuracies), max(accuracies)
    width = min(100.0, max(ACCURACY_SPAN, 1.2 * (high - low)))
    start = min(max(0.0, (low + high - width) / 2), 100.0 - width)
    return start, start + width


def _layout(
    order: list[str], span: tuple[float, float], *, named: bool
) -> dict[str, object]:
    return {
        "showlegend": named,
        "barmode": "group",
        "bargap": 0.5,
        "xaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": order,
            "anchor": "y2",
        },
        "yaxis": {
            "domain": [0.42, 1],
            "range": span,
            "title": {"text": "accuracy, %"},
        },
        "yaxis2": {
            "domain": [0, 0.32],
            "title": {"text": "errors"},
            "rangemode": "tozero",
        },
    }


@login_not_required
@never_cache
@require_GET
def health(request: HttpRequest) -> JsonResponse:
    """Answer 200 while the database and the cache do, else 503 with the one that does not."""
    failing = []
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        failing.append("database")
    try:
        cache.set("health", 1, timeout=10)
    except RedisError:
        failing.append("cache")
    if failing:
        return JsonResponse({"status": "unavailable", "failing": failing}, status=503)
    return JsonResponse({"status": "ok"})
