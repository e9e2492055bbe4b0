"""Thumbnails: only for members, only of the finding's own image."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.urls import reverse
from PIL import Image

from reviewapp.models import Finding
from reviewapp.thumbnails import ensure_thumbnails, thumbnail_name
from tests import factories


def url(finding: Finding, *, digest: str = "", size: str = "grid") -> str:
    return reverse(
        "finding-image",
        args=[finding.dataset.slug, finding.pk, digest or finding.digest, size],
    )


@pytest.fixture
def finding(world) -> Finding:
    """A finding whose two thumbnails are stored."""
    first = world.findings[0]
    for size in ("grid", "focus"):
        name = thumbnail_name(first.digest, size)
        default_storage.save(name, ContentFile(f"webp {size}".encode()))
    return first


@pytest.mark.parametrize("name", ["alice", "lena", "rita"])
@pytest.mark.parametrize("size", ["grid", "focus"])
def test_members_get_the_image(finding, client_of, name, size, request):
    client = client_of(request.getfixturevalue(name))
    response = client.get(url(finding, size=size))
    assert response.getvalue() == f"webp {size}".encode()
    assert response["Content-Type"] == "image/webp"
    assert response["Cache-Control"] == "private, max-age=31536000, immutable"
    assert response["ETag"] == f'"{finding.digest}-{size}"'


def test_a_thumbnail_is_sent_as_what_it_is(finding, rita, client_of):
    for size in ("grid", "focus"):
        default_storage.delete(thumbnail_name(finding.digest, size))
    buffer = BytesIO()
    Image.effect_noise((300, 200), 50).convert("RGB").save(buffer, "JPEG")
    assert ensure_thumbnails(finding.digest, buffer.getvalue())
    response = client_of(rita).get(url(finding, size="focus"))
    assert response.getvalue() == buffer.getvalue()
    assert response["Content-Type"] == "image/jpeg"
    assert response["X-Content-Type-Options"] == "nosniff"
    name = f'inline; filename="{finding.digest}-focus.jpeg"'
    assert response["Content-Disposition"] == name


def test_nobody_else_does(finding, charlie, client_of, client):
    assert client_of(charlie).get(url(finding)).status_code == 404
    etag = {"If-None-Match": f'"{finding.digest}-grid"'}
    assert client_of(charlie).get(url(finding), headers=etag).status_code == 404
    assert client.get(url(finding)).status_code == 302  # to sign in


def test_what_the_browser_has_is_not_sent_again(finding, rita, client_of):
    etag = {"If-None-Match": f'"{finding.digest}-grid"'}
    response = client_of(rita).get(url(finding), headers=etag)
    assert response.status_code == 304
    assert response.content == b""


def test_an_unknown_size_is_404(finding, rita, client_of):
    name = thumbnail_name(finding.digest, "huge")
    default_storage.save(name, ContentFile(b"not for anybody"))
    assert client_of(rita).get(url(finding, size="huge")).status_code == 404


def test_the_digest_of_another_image_is_404(finding, world, rita, client_of):
    other = world.findings[1]
    address = url(other, digest=finding.digest)
    assert client_of(rita).get(address).status_code == 404
    for digest in ("..", "\0"):
        assert client_of(rita).get(url(finding, digest=digest)).status_code == 404


def test_an_image_of_another_data_set_is_404(finding, rita, client_of):
    other = factories.DatasetFactory(name="Second", slug="second")
    factories.MembershipFactory(user=rita, dataset=other)
    address = url(finding).replace("/animals/", "/second/")
    assert client_of(rita).get(address).status_code == 404


def test_a_thumbnail_that_was_not_made_is_404(world, rita, client_of):
    assert client_of(rita).get(url(world.findings[0])).status_code == 404


@pytest.mark.parametrize("part", ["file", "folder"])
def test_a_thumbnail_that_cannot_be_read_is_404(world, rita, client_of, part):
    first = world.findings[0]
    path = Path(default_storage.path(thumbnail_name(first.digest, "grid")))
    if part == "file":
        path.mkdir(parents=True)
    else:
        path.parent.parent.mkdir(parents=True)
        path.parent.write_bytes(b"a file where the folder was")
    response = client_of(rita).get(url(first))
    assert response.status_code == 404
    assert "immutable" not in response.headers.get("Cache-Control", "")


def test_an_id_that_no_column_holds_is_404(finding, rita, client_of):
    for digits in (19, 40, 5000):
        address = url(finding).replace(f"/{finding.pk}/", f"/{'9' * digits}/")
        assert client_of(rita).get(address).status_code == 404
