"""Data sets: the list, bringing one in, and bringing it up to date."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
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
from reviewapp.access import access_dataset, access_one
from reviewapp.actions.datasets import register_again, register_dataset
from reviewapp.exceptions import HardmineError, NotAllowed
from reviewapp.forms.datasets import DatasetForm
from reviewapp.models import Dataset, Registration, Role
from reviewapp.tasks import enqueue_registration
from reviewapp.views.requests import UserRequest


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a registration is; `expected` is what the last one found, 0: unknown."""

    expected: int
    elapsed: timedelta
    left: timedelta | None


@require_GET
def index(request: UserRequest) -> HttpResponse:
    """List the person's data sets."""
    registrations = Registration.objects.visible_to(request.user).newest_per_dataset()
    newest = {row.dataset_id: row for row in registrations}
    datasets = Dataset.objects.visible_to(request.user).with_size().by_name()
    rows = [(dataset, newest.get(dataset.pk)) for dataset in datasets]
    return render(request, "datasets/index.html", {"rows": rows})


@require_http_methods(["GET", "POST"])
def new(request: UserRequest) -> HttpResponse:
    """Register a data set; staff only."""
    if not request.user.may_register_datasets:
        raise NotAllowed(
            "Only staff may register a data set. Ask an administrator of this server."
        )
    form = DatasetForm(request.POST or None)
    if form.is_valid():
        try:
            registration = register_dataset(**form.cleaned_data, by=request.user)
        except (HardmineError, MiningError) as error:
            form.add_error(None, str(error))
        else:
            enqueue_registration(registration)
            return redirect(
                "registration-detail", registration.dataset.slug, registration.pk
            )
    context = {"form": form, "roots": settings.DATA_ROOTS}
    return render(request, "datasets/new.html", context)


@require_POST
def register(request: UserRequest, slug: str) -> HttpResponse:
    """Read the data set's source again."""
    dataset = access_dataset(request.user, slug, role=Role.ADMIN)
    registration = register_again(dataset=dataset, by=request.user)
    enqueue_registration(registration)
    return redirect("registration-detail", dataset.slug, registration.pk)


@require_GET
def registration(request: UserRequest, slug: str, registration_id: int) -> HttpResponse:
    """Show how far a registration is, or what it changed."""
    dataset = access_dataset(request.user, slug)
    registrations = Registration.objects.for_dataset(dataset)
    registration = access_one(
        registrations.select_related("requested_by"), pk=registration_id
    )
    before = registrations.done().newest_first().first()
    context = {
        "dataset": dataset,
        "registration": registration,
        "reading": _reading(registration, before),
    }
    if not request.htmx:
        return render(request, "datasets/registration.html", context)
    fragment = render(request, "datasets/registration.html#progress", context)
    if registration.is_active:
        return fragment
    return HttpResponseStopPolling(fragment.content)


def _reading(registration: Registration, before: Registration | None) -> Reading:
    end = registration.finished_at or timezone.now()
    elapsed = end - registration.created_at
    expected = max(before.total, registration.done) if before else 0
    left = None
    if registration.done and expected:
        left = elapsed * ((expected - registration.done) / registration.done)
    return Reading(expected=expected, elapsed=elapsed, left=left)
