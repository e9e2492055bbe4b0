"""Registered models and their versions."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from mining.exceptions import MiningError
from reviewapp.access import access_dataset, access_one
from reviewapp.actions.registry import register_version
from reviewapp.exceptions import HardmineError
from reviewapp.forms.registry import VersionForm
from reviewapp.models import ModelVersion, Role, Scan
from reviewapp.models.people import role_on
from reviewapp.views.requests import UserRequest

SCANS_OF_MODEL = 500


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """List the models of the data set."""
    dataset = access_dataset(request.user, slug)
    context = {
        "dataset": dataset,
        "role": role_on(request.user, dataset),
        "models": dataset.registered_models.with_versions().order_by("name"),
    }
    return render(request, "registry/index.html", context)


@require_http_methods(["GET", "POST"])
def new(request: UserRequest, slug: str) -> HttpResponse:
    """Register a checkpoint as the next version of a model."""
    dataset = access_dataset(request.user, slug, role=Role.LEAD)
    initial = {"name": request.GET.get("name", "")}
    form = VersionForm(request.POST or None, dataset=dataset, initial=initial)
    if form.is_valid():
        try:
            version = register_version(
                dataset=dataset, **form.cleaned_data, by=request.user
            )
        except (HardmineError, MiningError) as error:
            form.add_error(None, str(error))
        else:
            return redirect("model-detail", dataset.slug, version.registered_model_id)
    context = {"dataset": dataset, "form": form, "roots": settings.MODEL_ROOTS}
    return render(request, "registry/new.html", context)


@require_GET
def detail(request: UserRequest, slug: str, model_id: int) -> HttpResponse:
    """Show a model: its versions, the newest first, and how each one did."""
    dataset = access_dataset(request.user, slug)
    model = access_one(dataset.registered_models.all(), pk=model_id)
    versions = model.versions.select_related("trained_on", "created_by")
    scans = Scan.objects.for_dataset(dataset).of_model(model).newest_first()
    by_version: dict[int, list[Scan]] = {}
    for scan in scans[:SCANS_OF_MODEL]:
        by_version.setdefault(scan.model_version_id, []).append(scan)
    rows: list[tuple[ModelVersion, list[Scan]]] = [
        (version, by_version.get(version.pk, []))
        for version in versions.order_by("-number")
    ]
    context = {
        "dataset": dataset,
        "role": role_on(request.user, dataset),
        "model": model,
        "rows": rows,
    }
    return render(request, "registry/detail.html", context)
