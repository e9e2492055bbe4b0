"""Out-of-fold scans: starting and stopping them, and one in the making."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
)
from django_htmx.http import HttpResponseStopPolling

from mining.exceptions import MiningError
from reviewapp.access import access_dataset, access_one
from reviewapp.actions.folds import start_folds
from reviewapp.actions.runs import cancel_run, resume_run
from reviewapp.exceptions import HardmineError
from reviewapp.forms.folds import FoldForm
from reviewapp.forms.training import usual_parent
from reviewapp.models import Dataset, FoldRun, Role
from reviewapp.models.people import role_on
from reviewapp.tasks import enqueue_folds
from reviewapp.views.requests import UserRequest


@require_http_methods(["GET", "POST"])
def new(request: UserRequest, slug: str) -> HttpResponse:
    """Start an out-of-fold scan, from `?parent=`."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    initial = {"parent": request.GET.get("parent") or usual_parent(dataset)}
    form = FoldForm(request.POST or None, dataset=dataset, initial=initial)
    if form.is_valid():
        try:
            run = start_folds(dataset=dataset, by=request.user, **form.choices())
        except (HardmineError, MiningError) as error:
            form.add_error(None, str(error))
        else:
            enqueue_folds(run)
            return redirect("scan-folds", dataset.slug, run.pk)
    context = {
        "dataset": dataset,
        "form": form,
        "has_versions": form.versions.exists(),
    }
    return render(request, "folds/new.html", context)


@require_GET
def detail(request: UserRequest, slug: str, fold_run_id: int) -> HttpResponse:
    """Show one run: live while it goes on, what came of it afterwards."""
    dataset = access_dataset(request.user, slug)
    run = _run(dataset, fold_run_id)
    context = {
        "dataset": dataset,
        "run": run,
        "role": role_on(request.user, dataset),
        "settings": run.ordered_settings(),
    }
    if not request.htmx:
        return render(request, "folds/detail.html", context)
    fragment = render(request, "folds/detail.html#progress", context)
    if run.is_active:
        return fragment
    # The rest of the page has changed too: the last poll stops and loads it anew.
    return HttpResponseStopPolling(fragment.content, headers={"HX-Refresh": "true"})


def _run(dataset: Dataset, run_id: int) -> FoldRun:
    return access_one(FoldRun.objects.for_dataset(dataset).with_names(), pk=run_id)


@require_POST
def cancel(request: UserRequest, slug: str, fold_run_id: int) -> HttpResponse:
    """Stop a run."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    run = cancel_run(run=_run(dataset, fold_run_id), by=request.user)
    return redirect("scan-folds", dataset.slug, run.pk)


@require_POST
def resume(request: UserRequest, slug: str, fold_run_id: int) -> HttpResponse:
    """Go on with a run that failed or was stopped."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    run = resume_run(run=_run(dataset, fold_run_id), by=request.user)
    enqueue_folds(run)
    return redirect("scan-folds", dataset.slug, run.pk)
