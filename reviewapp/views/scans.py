"""Scans: the list, starting and stopping them, one scan live, and schedules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
)
from django_htmx.http import HttpResponseStopPolling

from mining.exceptions import MiningError
from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.actions.scans import cancel_scan, start_scan
from reviewapp.actions.schedules import schedule_scan, unschedule
from reviewapp.downloads import open_stored
from reviewapp.exceptions import HardmineError
from reviewapp.filters import ScanFilter
from reviewapp.forms.scans import ScanForm, ScheduleForm
from reviewapp.models import Dataset, Role, Scan
from reviewapp.models.people import role_on
from reviewapp.pagination import keyset_page
from reviewapp.tasks import enqueue_scan
from reviewapp.views.requests import UserRequest

PAGE_SIZE = 30
TOP_CONFUSIONS = 20
UNREADABLE_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scan is; rate in images per second."""

    done: int
    elapsed: timedelta | None
    rate: float | None
    left: timedelta | None


def scan_progress(scan: Scan, *, done: int) -> Progress:
    """Measure a scan from its start to now, or to its end."""
    if scan.started_at is None:
        return Progress(done, None, None, None)
    elapsed = (scan.finished_at or timezone.now()) - scan.started_at
    rate = done / elapsed.total_seconds() if done and elapsed else None
    left = None
    if rate and scan.is_active:
        left = timedelta(seconds=max(0, scan.samples - done) / rate)
    return Progress(done, elapsed, rate, left)


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """List the scans, the latest first."""
    dataset = access_dataset(request.user, slug)
    scans = Scan.objects.for_dataset(dataset).with_names().with_progress()
    filters = ScanFilter(request.GET, queryset=scans)
    page = keyset_page(
        filters.qs, by=("id",), after=request.GET.get("after"), size=PAGE_SIZE
    )
    context = {
        "dataset": dataset,
        "role": role_on(request.user, dataset),
        "filters": filters,
        "page": page,
    }
    return render(request, "scans/index.html", context)


@require_http_methods(["GET", "POST"])
def new(request: UserRequest, slug: str) -> HttpResponse:
    """Start a scan."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    initial = {"version": request.GET.get("version"), "split": request.GET.get("split")}
    form = ScanForm(request.POST or None, dataset=dataset, initial=initial)
    if form.is_valid():
        try:
            scan = start_scan(
                dataset=dataset,
                version=form.cleaned_data["version"],
                split=form.cleaned_data["split"],
                settings=form.settings(),
                trigger=Scan.Trigger.PAGE,
                by=request.user,
            )
        except (HardmineError, MiningError) as error:
            form.add_error(None, str(error))
        else:
            enqueue_scan(scan)
            return redirect("scan-detail", dataset.slug, scan.pk)
    context = {
        "dataset": dataset,
        "form": form,
        "has_versions": form.versions.exists(),
    }
    return render(request, "scans/new.html", context)


@require_GET
def detail(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """Show one scan: live while it runs, its facts afterwards."""
    dataset = access_dataset(request.user, slug)
    scans = Scan.objects.for_dataset(dataset).with_names().with_progress()
    scan = access_one(scans, pk=scan_id)
    done: int = scan.samples_done or 0  # type: ignore[attr-defined]  # annotated
    context = {
        "dataset": dataset,
        "scan": scan,
        "progress": scan_progress(scan, done=done),
        "shards": scan.shards.all().counts_by_state(),
        "troubled": scan.shards.troubled()[:5],
    }
    if request.htmx:
        return _live_fragment(request, scan, context)
    context |= {
        "role": role_on(request.user, dataset),
        "confusions": scan.confusion_counts.all().top(TOP_CONFUSIONS),
        "unreadable": scan.unreadable_samples.select_related("sample").order_by("id")[
            :UNREADABLE_SHOWN
        ],
    }
    return render(request, "scans/detail.html", context)


def _live_fragment(
    request: UserRequest, scan: Scan, context: dict[str, object]
) -> HttpResponse:
    fragment = render(request, "scans/detail.html#progress", context)
    if scan.is_active:
        return fragment
    # The rest of the page has changed too: the last poll stops and loads it anew.
    return HttpResponseStopPolling(fragment.content, headers={"HX-Refresh": "true"})


@require_POST
def cancel(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """Stop a scan."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    scan = access_one(Scan.objects.for_dataset(dataset), pk=scan_id)
    cancel_scan(scan=scan, by=request.user)
    return redirect("scan-detail", dataset.slug, scan.pk)


@require_GET
def outcomes(request: UserRequest, slug: str, scan_id: int) -> FileResponse:
    """Send the scan's artefact: one row for each sample, right or wrong."""
    dataset = access_dataset(request.user, slug)
    scan = access_one(Scan.objects.for_dataset(dataset), pk=scan_id)
    if not scan.artefact:
        raise Http404
    return FileResponse(
        open_stored(
            scan.artefact,
            advice="The scan's counts and findings are kept. Put the file back from a "
            "backup, or scan again.",
        ),
        as_attachment=True,
        filename=f"{dataset.slug}-scan-{scan.pk}-outcomes.parquet",
        content_type="application/vnd.apache.parquet",
    )


@require_http_methods(["GET", "POST"])
def schedules(request: UserRequest, slug: str) -> HttpResponse:
    """Show, add, change and remove the scans that start by themselves."""
    writing = request.method == "POST"
    role = Role.LEAD if writing else Role.REVIEWER
    dataset = access_dataset(request.user, slug, role=role)
    if writing and "remove" in request.POST:
        return _remove_schedule(request, dataset)
    form = ScheduleForm(request.POST or None, dataset=dataset)
    if form.is_valid():
        try:
            schedule_scan(dataset=dataset, **form.cleaned_data, by=request.user)
        except HardmineError as error:
            form.add_error("cron", str(error))
        else:
            return redirect("schedule-list", dataset.slug)
    rows = dataset.schedules.select_related(
        "registered_model", "periodic_task__crontab"
    )
    context = {
        "dataset": dataset,
        "role": role_on(request.user, dataset),
        "form": form,
        "schedules": rows.order_by("id"),
        "zone": settings.TIME_ZONE,
        "has_models": dataset.registered_models.exists(),
    }
    return render(request, "scans/schedules.html", context)


def _remove_schedule(request: UserRequest, dataset: Dataset) -> HttpResponse:
    chosen = id_from(request.POST["remove"])
    schedule = access_one(dataset.schedules.all(), pk=chosen)
    unschedule(schedule=schedule, by=request.user)
    return redirect("schedule-list", dataset.slug)
