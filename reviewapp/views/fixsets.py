"""Fix sets: freezing what was confirmed and relabelled, and exporting it."""

from __future__ import annotations

from django.contrib import messages
from django.http import FileResponse, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import (
    require_GET,
    require_http_methods,
    require_POST,
)

from reviewapp.access import access_dataset, access_one, require_role
from reviewapp.actions.fixsets import request_export
from reviewapp.downloads import send_export
from reviewapp.exceptions import HardmineError
from reviewapp.forms.fixsets import FixSetForm, filter_in_words
from reviewapp.models import Cause, Dataset, Export, FixSet, Role, Split, Verdict
from reviewapp.models.people import role_on
from reviewapp.pagination import keyset_page
from reviewapp.tasks import enqueue_export
from reviewapp.views.requests import UserRequest

PAGE_SIZE = 50
ITEMS_SHOWN = 100


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """List the fix sets, the latest first."""
    dataset = access_dataset(request.user, slug)
    page = keyset_page(
        FixSet.objects.for_dataset(dataset).with_names(),
        by=("id",),
        after=request.GET.get("after"),
        size=PAGE_SIZE,
    )
    context = {
        "dataset": dataset,
        "fix_sets": page.rows,
        "next": page.next,
        "may_freeze": _is_admin(request, dataset),
    }
    return render(request, "fixsets/index.html", context)


@require_http_methods(["GET", "POST"])
def new(request: UserRequest, slug: str) -> HttpResponse:
    """Choose what to freeze, with a live preview, and freeze it."""
    dataset = access_dataset(request.user, slug, role=Role.ADMIN)
    data = request.POST if request.method == "POST" else (request.GET or None)
    form = FixSetForm(data, dataset=dataset)
    is_freezing = request.method == "POST" and "preview" not in request.POST
    if is_freezing and form.is_valid():
        try:
            fix_set = form.freeze(by=request.user)
        except HardmineError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"{fix_set.name} is frozen.")
            return redirect("fixset-detail", slug, fix_set.pk)
    preview = form.preview() if form.query.is_valid() else None
    counts = (
        _in_words(
            preview.by_verdict, preview.by_label, preview.by_cause, preview.by_split
        )
        if preview
        else []
    )
    context = {"dataset": dataset, "form": form, "preview": preview, "counts": counts}
    template = "fixsets/new.html" + ("#preview" if request.htmx else "")
    return render(request, template, context)


@require_GET
def detail(request: UserRequest, slug: str, fix_set_id: int) -> HttpResponse:
    """Show a frozen set: its digest, filter, counts, first items and exports."""
    dataset = access_dataset(request.user, slug)
    fix_set = _fix_set(dataset, fix_set_id)
    exports = list(fix_set.exports.select_related("requested_by"))
    context = {
        "dataset": dataset,
        "fix_set": fix_set,
        "exports": exports,
        "is_exporting": any(export.is_active for export in exports),
        "may_export": _is_admin(request, dataset),
        "formats": Export.Format.choices,
    }
    if request.htmx:
        return render(request, "fixsets/detail.html#exports", context)
    items = fix_set.items.all()
    context["filter"] = filter_in_words(fix_set.filter)
    context["items"] = items[:ITEMS_SHOWN]
    context["counts"] = _in_words(
        items.count_by("verdict"),
        items.count_by("label"),
        items.count_by_cause(),
        items.count_by("split"),
    )
    return render(request, "fixsets/detail.html", context)


@require_POST
def export(request: UserRequest, slug: str, fix_set_id: int) -> HttpResponse:
    """Queue an export of a frozen set."""
    dataset = access_dataset(request.user, slug)
    fix_set = _fix_set(dataset, fix_set_id)
    require_role(request.user, dataset, Role.ADMIN)
    queued = request_export(
        fix_set=fix_set, format=request.POST.get("format", ""), by=request.user
    )
    enqueue_export(queued)
    return redirect("fixset-detail", slug, fix_set.pk)


@require_GET
def download(
    request: UserRequest, slug: str, fix_set_id: int, export_id: int
) -> FileResponse:
    """Send the file of a finished export."""
    dataset = access_dataset(request.user, slug)
    exports = _fix_set(dataset, fix_set_id).exports.select_related("fix_set")
    found = access_one(exports, pk=export_id)
    require_role(request.user, dataset, Role.ADMIN)
    return send_export(found)


def _fix_set(dataset: Dataset, fix_set_id: int) -> FixSet:
    fix_sets = FixSet.objects.for_dataset(dataset).with_names()
    return access_one(fix_sets, pk=fix_set_id)


def _is_admin(request: UserRequest, dataset: Dataset) -> bool:
    return role_on(request.user, dataset) is Role.ADMIN


def _in_words(
    by_verdict: dict[str, int],
    by_label: dict[str, int],
    by_cause: dict[str, int],
    by_split: dict[str, int],
) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return (heading, [(name, items)]) of each way to count."""
    return [
        ("Verdict", [(Verdict(name).label, n) for name, n in by_verdict.items()]),
        ("Label to train with", list(by_label.items())),
        ("Cause", [(Cause(name).label, n) for name, n in by_cause.items()]),
        ("Split", [(Split(name).label, n) for name, n in by_split.items()]),
    ]
