"""Scans: the list, starting and stopping them, one scan live, and schedules."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
)
from django_htmx.http import HttpResponseStopPolling

from mining.exceptions import MiningError
from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.actions.scans import cancel_scan, resume_scan, start_scan
from reviewapp.actions.schedules import schedule_scan, unschedule
from reviewapp.downloads import open_stored
from reviewapp.exceptions import HardmineError
from reviewapp.filters import ScanFilter, ShardFilter
from reviewapp.forms.scans import ScanForm, ScheduleForm
from reviewapp.models import Dataset, FoldRun, Role, Scan, UnreadableSample
from reviewapp.models.people import role_on
from reviewapp.pagination import keyset_page
from reviewapp.tasks import enqueue_scan
from reviewapp.views.requests import UserRequest
from reviewapp.watching import (
    WORKERS_SHOWN,
    recheck_line,
    samples_of,
    unreadable_by_reason,
    watch,
    with_first_keys,
)

PAGE_SIZE = 30
ROWS = 50
TOP_CONFUSIONS = 20
TROUBLES_LIVE = 5
UNREADABLE_SHOWN = 12
FOLD_RUNS_SHOWN = 3


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
        "fold_runs": FoldRun.objects.for_dataset(dataset)
        .without_scan()
        .with_names()[:FOLD_RUNS_SHOWN],
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
    scan = access_one(Scan.objects.for_dataset(dataset).with_names(), pk=scan_id)
    troubled = with_first_keys(scan.shards.troubled(), scan)
    worst_first = troubled.order_by("-failures", "-losses", "number")
    context = {
        "dataset": dataset,
        "scan": scan,
        "watch": watch(scan),
        "workers_shown": WORKERS_SHOWN,
        "recheck": recheck_line(scan),
        "troubled": worst_first[: TROUBLES_LIVE if scan.is_active else ROWS],
        "can_resume": False,  # a poll that finds the scan ended loads the page anew
    }
    if request.htmx:
        return _live_fragment(request, scan, context)
    role = role_on(request.user, dataset)
    context |= {
        "role": role,
        "can_resume": _can_resume(scan, role),
        "confusions": scan.confusion_counts.all().top(TOP_CONFUSIONS),
        "reasons": unreadable_by_reason(scan),
        "unreadable": _unreadable_of(scan).order_by("sample_id")[:UNREADABLE_SHOWN],
    }
    return render(request, "scans/detail.html", context)


def _can_resume(scan: Scan, role: Role | None) -> bool:
    resumable = scan.state in Scan.RESUMABLE and scan.model_version.has_checkpoint
    return resumable and role is not None and role.leads


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


@require_POST
def resume(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """Go on with a scan that ended without all its parts."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    scan = access_one(Scan.objects.for_dataset(dataset), pk=scan_id)
    resume_scan(scan=scan, by=request.user)
    enqueue_scan(scan)
    return redirect("scan-detail", dataset.slug, scan.pk)


@require_GET
def parts(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """List the parts of a scan, by state."""
    dataset = access_dataset(request.user, slug)
    scan = access_one(Scan.objects.for_dataset(dataset).with_names(), pk=scan_id)
    filters = ShardFilter(
        request.GET, queryset=with_first_keys(scan.shards.all(), scan)
    )
    context = {
        "dataset": dataset,
        "scan": scan,
        "states": scan.shards.counts_by_state(),
        "filters": filters,
        "page": keyset_page(
            filters.qs, by=("number",), after=request.GET.get("after"), size=ROWS
        ),
    }
    return render(request, "scans/parts.html", context)


@require_GET
def part(request: UserRequest, slug: str, scan_id: int, part: int) -> HttpResponse:
    """Show one part of a scan, counted from 1, and its samples."""
    dataset = access_dataset(request.user, slug)
    scans = Scan.objects.for_dataset(dataset).with_names()
    scan = access_one(scans, pk=scan_id)
    shard = access_one(scan.shards.all(), number=part - 1)
    context = {
        "dataset": dataset,
        "scan": scan,
        "shard": shard,
        "page": keyset_page(
            samples_of(shard), by=("id",), after=request.GET.get("after"), size=ROWS
        ),
    }
    return render(request, "scans/part.html", context)


@require_GET
def unreadable(request: UserRequest, slug: str, scan_id: int) -> HttpResponse:
    """List what a scan could not read, all of it or for one reason."""
    dataset = access_dataset(request.user, slug)
    scan = access_one(Scan.objects.for_dataset(dataset).with_names(), pk=scan_id)
    rows = _unreadable_of(scan)
    reason = request.GET.get("reason", "").replace("\0", "")
    if reason:
        rows = rows.filter(reason=reason)
    context = {
        "dataset": dataset,
        "scan": scan,
        "reason": reason,
        "reasons": unreadable_by_reason(scan),
        "page": keyset_page(
            rows, by=("sample_id",), after=request.GET.get("after"), size=ROWS
        ),
    }
    return render(request, "scans/unreadable.html", context)


def _unreadable_of(scan: Scan) -> QuerySet[UnreadableSample]:
    return scan.unreadable_samples.select_related("sample")


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
