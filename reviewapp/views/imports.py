"""Importing predictions made elsewhere: the upload, its progress and its report."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods
from django_htmx.http import HttpResponseStopPolling

from mining.exceptions import MiningError
from reviewapp.access import access_dataset, access_one
from reviewapp.actions.imports import request_import
from reviewapp.exceptions import HardmineError
from reviewapp.forms.imports import ImportForm
from reviewapp.models import Import, Role
from reviewapp.models.people import role_on
from reviewapp.tasks import enqueue_import
from reviewapp.views.requests import UserRequest

LATEST = 20


@require_http_methods(["GET", "POST"])
def new(request: UserRequest, slug: str) -> HttpResponse:
    """Upload a file of predictions; below it the latest imports."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    form = ImportForm(request.POST or None, request.FILES or None, dataset=dataset)
    if form.is_valid():
        try:
            job = request_import(dataset=dataset, by=request.user, **form.cleaned_data)
        except (HardmineError, MiningError) as error:
            form.add_error("file", str(error))
        else:
            enqueue_import(job)
            return redirect("import-detail", dataset.slug, job.pk)
    imports = Import.objects.for_dataset(dataset).with_names().newest_first()
    context = {
        "dataset": dataset,
        "form": form,
        "imports": imports[:LATEST],
        "limit": settings.IMPORT_MAX_BYTES,
    }
    return render(request, "imports/new.html", context)


@require_GET
def detail(request: UserRequest, slug: str, import_id: int) -> HttpResponse:
    """Show how far an import is, or what it found."""
    dataset = access_dataset(request.user, slug)
    job = access_one(Import.objects.for_dataset(dataset).with_names(), pk=import_id)
    elapsed = (job.finished_at or timezone.now()) - job.created_at
    context = {
        "dataset": dataset,
        "job": job,
        "role": role_on(request.user, dataset),
        "elapsed": elapsed,
        "left": _left(job, elapsed),
        "percent": round(100 * job.progress),
        "listed": job.report.get("listed", {}),
    }
    if not request.htmx:
        return render(request, "imports/detail.html", context)
    fragment = render(request, "imports/detail.html#progress", context)
    if job.is_active:
        return fragment
    return HttpResponseStopPolling(fragment.content)


@require_GET
def report(request: UserRequest, slug: str, import_id: int) -> HttpResponse:
    """Send the report of an import as a JSON file."""
    dataset = access_dataset(request.user, slug)
    job = access_one(Import.objects.for_dataset(dataset), pk=import_id)
    return JsonResponse(
        job.report,
        json_dumps_params={"indent": 2},
        headers={
            "Content-Disposition": f'attachment; filename="import-{job.pk}-report.json"'
        },
    )


def _left(job: Import, elapsed: timedelta) -> timedelta | None:
    """Return how much longer the file will be read for; None: that is not known."""
    if not job.is_active or not 0 < job.progress < 1:
        return None
    return elapsed * ((1 - job.progress) / job.progress)
