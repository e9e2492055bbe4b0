"""Thumbnails: made once by the worker, named by the image's digest."""

from __future__ import annotations

from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage

from mining.exceptions import UnreadableImage
from mining.images import file_type
from mining.thumbnails import make_thumbnails
from reviewapp.storage import store_bytes

SIZES = {"grid": 256, "focus": 1280}  # longest side in pixels
_TYPES = {"JPEG": "image/jpeg"}


def thumbnail_name(digest: str, size: str) -> str:
    """Return the storage name of an image's thumbnail.

    It says WebP, as all were once, whatever it holds: those of earlier scans are found by
    it without asking the storage twice.
    """
    return f"thumbnails/{digest[:2]}/{digest}-{size}.webp"


def thumbnail_type(file: File[Any]) -> str:
    """Return the content type of an open thumbnail by its first bytes."""
    start = file.read(4)
    file.seek(0)
    return _TYPES.get(file_type(start), "image/webp")


def ensure_thumbnails(digest: str, data: bytes) -> bool:
    """Make the thumbnails of an image that are not there yet; False: it has none.

    Several threads and workers may do it at once, also for the same image.

    Raises:
        ArtefactError: The storage could not take one.
    """
    names = [thumbnail_name(digest, size) for size in SIZES]
    if all(map(default_storage.exists, names)):
        return True
    try:
        made = make_thumbnails(data, longest_sides=list(SIZES.values()))
    except UnreadableImage:  # the page shows a blank
        return False
    for name, thumbnail in zip(names, made, strict=True):
        store_bytes(name, thumbnail)
    return True
