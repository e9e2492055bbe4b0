"""Thumbnails of findings and unreadable samples, for those who may see them."""

from __future__ import annotations

from django.http import FileResponse, Http404, HttpResponseBase
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset, access_one
from reviewapp.downloads import open_stored
from reviewapp.models import Exemplar, Finding, Scan
from reviewapp.thumbnails import SIZES, thumbnail_name, thumbnail_type
from reviewapp.views.requests import UserRequest

# The digest is in the URL: another image has another URL.
CACHE_CONTROL = "private, max-age=31536000, immutable"


@require_GET
def thumbnail(
    request: UserRequest, slug: str, finding_id: int, digest: str, size: str
) -> HttpResponseBase:
    """Send one thumbnail; 404 when it is of another image or was not made."""
    dataset = access_dataset(request.user, slug)
    finding = access_one(
        Finding.objects.for_dataset(dataset), pk=finding_id, digest=digest
    )
    return _send(request, finding.digest, size)


@require_GET
def exemplar(
    request: UserRequest, slug: str, exemplar_id: int, digest: str, size: str
) -> HttpResponseBase:
    """Send the thumbnail of an exemplar, as it was when scanned."""
    dataset = access_dataset(request.user, slug)
    exemplars = Exemplar.objects.filter(registered_model__dataset=dataset)
    one = access_one(exemplars, pk=exemplar_id, digest=digest)
    return _send(request, one.digest, size)


@require_GET
def unreadable(
    request: UserRequest,
    slug: str,
    scan_id: int,
    sample_id: int,
    digest: str,
    size: str,
) -> HttpResponseBase:
    """Send the thumbnail of a sample that a scan counts as unreadable, if there is one."""
    dataset = access_dataset(request.user, slug)
    scan = access_one(Scan.objects.for_dataset(dataset), pk=scan_id)
    row = access_one(scan.unreadable_samples.all(), sample=sample_id, digest=digest)
    return _send(request, row.digest, size)


def _send(request: UserRequest, digest: str, size: str) -> HttpResponseBase:
    if size not in SIZES:
        raise Http404
    etag = f'"{digest}-{size}"'
    response: HttpResponseBase | None = get_conditional_response(request, etag=etag)
    if response is None:
        stored = open_stored(
            thumbnail_name(digest, size),
            advice="The image itself is kept. The next scan makes it again.",
        )
        kind = thumbnail_type(stored)
        ending = kind.removeprefix("image/")
        response = FileResponse(
            stored, content_type=kind, filename=f"{digest}-{size}.{ending}"
        )
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = CACHE_CONTROL
    return response
