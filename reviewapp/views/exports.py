"""Exports of fix sets: queued and downloaded."""

from __future__ import annotations

from django.http import FileResponse, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from reviewapp.access import access_dataset, access_one, require_role
from reviewapp.actions.exports import request_export
from reviewapp.downloads import send_export
from reviewapp.models import Dataset, FixSet, Role
from reviewapp.tasks import enqueue_export
from reviewapp.views.requests import UserRequest


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
    exports = _fix_set(dataset, fix_set_id).exports.with_names()
    found = access_one(exports, pk=export_id)
    require_role(request.user, dataset, Role.ADMIN)
    return send_export(found)


def _fix_set(dataset: Dataset, fix_set_id: int) -> FixSet:
    return access_one(FixSet.objects.for_dataset(dataset), pk=fix_set_id)
