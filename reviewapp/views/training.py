"""Training runs: the list, starting and stopping them, and one of them live."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.http import HttpResponse
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
from reviewapp.actions.training import (
    cancel_training,
    resume_training,
    start_training,
)
from reviewapp.curves import loss_chart
from reviewapp.exceptions import HardmineError
from reviewapp.forms.training import TrainingForm, usual_parent
from reviewapp.models import Dataset, Recipe, Role, Scan, TrainingRun
from reviewapp.models.people import role_on
from reviewapp.pagination import keyset_page
from reviewapp.tasks import enqueue_training
from reviewapp.views.requests import UserRequest

PAGE_SIZE: Final = 30


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """List the runs, the latest first."""
    dataset = access_dataset(request.user, slug)
    page = keyset_page(
        TrainingRun.objects.for_dataset(dataset).with_names(),
        by=("id",),
        after=request.GET.get("after"),
        size=PAGE_SIZE,
    )
    context = {
        "dataset": dataset,
        "role": role_on(request.user, dataset),
        "page": page,
    }
    return render(request, "training/index.html", context)


@require_http_methods(["GET", "POST"])
def new(request: UserRequest, slug: str) -> HttpResponse:
    """Start a run, from `?parent=`, with a recipe of `?fix_set=` or `?recipe=`."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    form = TrainingForm(
        request.POST or None, dataset=dataset, initial=_asked(request, dataset)
    )
    if form.is_valid():
        try:
            run = start_training(dataset=dataset, by=request.user, **form.choices())
        except (HardmineError, MiningError) as error:
            form.add_error(None, str(error))
        else:
            enqueue_training(run)
            return redirect("training-detail", dataset.slug, run.pk)
    context = {
        "dataset": dataset,
        "form": form,
        "has_versions": form.versions.exists(),
    }
    return render(request, "training/new.html", context)


def _asked(request: UserRequest, dataset: Dataset) -> dict[str, Any]:
    """Return what the form begins with: the newest recipe of what was asked for."""
    recipes = Recipe.objects.for_dataset(dataset).done().newest_first().lean()
    if fix_set := id_from(request.GET.get("fix_set", "")):
        recipes = recipes.filter(fix_set=fix_set)
    asked = {name: id_from(request.GET.get(name, "")) for name in ("parent", "recipe")}
    if asked["recipe"]:
        recipes = recipes.filter(pk=asked["recipe"])
    recipe = recipes.first()
    return {
        "recipe": recipe and recipe.pk,
        "parent": asked["parent"] or usual_parent(dataset, recipe),
    }


@require_GET
def detail(request: UserRequest, slug: str, run_id: int) -> HttpResponse:
    """Show one run: live while it goes on, what came of it afterwards."""
    dataset = access_dataset(request.user, slug)
    run = _run(dataset, run_id)
    context: dict[str, Any] = {
        "dataset": dataset,
        "run": run,
        "role": role_on(request.user, dataset),
        "settings": run.ordered_settings(),
        "chart": loss_chart(run.epochs),
        "best_epoch": run.outcome.get("best_epoch"),
        **_pace(run),
    }
    if request.htmx:
        fragment = render(request, "training/detail.html#progress", context)
        if run.is_active:
            return fragment
        # The rest of the page has changed too: the last poll stops and loads it anew.
        return HttpResponseStopPolling(fragment.content, headers={"HX-Refresh": "true"})
    controls = run.controls.select_related("version__registered_model")
    context["controls"] = list(controls.defer("content").order_by("pk"))
    context["stops_control"] = any(one.is_active for one in context["controls"])
    context["before"] = _scan_before(run)
    return render(request, "training/detail.html", context)


def _run(dataset: Dataset, run_id: int) -> TrainingRun:
    runs = TrainingRun.objects.for_dataset(dataset).with_names()
    return access_one(runs, pk=run_id)


def _pace(run: TrainingRun) -> dict[str, Any]:
    """Return how long it took so far, and how long it takes yet, at most."""
    spent = (
        (run.finished_at or timezone.now()) - run.started_at if run.started_at else None
    )
    step, left = run.progress, None
    if run.is_active and step.get("rate"):
        epochs = run.settings["epochs"] - step["epoch"]
        samples = epochs * step["all"] + step["all"] - step["done"]
        left = timedelta(seconds=samples / step["rate"])
    return {"elapsed": spent, "left": left}


def _scan_before(run: TrainingRun) -> Scan | None:
    """Return what the new version is compared with: the parent's last scan of the split."""
    scans = run.parent.scans.finished().filter(
        dataset=run.dataset_id, split=run.scan_split, folds=0
    )
    return scans.newest_first().first()


@require_POST
def cancel(request: UserRequest, slug: str, run_id: int) -> HttpResponse:
    """Stop a run."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    run = cancel_training(run=_run(dataset, run_id), by=request.user)
    return redirect("training-detail", dataset.slug, run.pk)


@require_POST
def resume(request: UserRequest, slug: str, run_id: int) -> HttpResponse:
    """Go on with a run that failed or was stopped."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    run = resume_training(run=_run(dataset, run_id), by=request.user)
    enqueue_training(run)
    return redirect("training-detail", dataset.slug, run.pk)
