"""Thumbnails: made once by the worker, named by the image's digest."""

from __future__ import annotations

from django.core.files.storage import default_storage

from mining.exceptions import UnreadableImage
from mining.thumbnails import make_thumbnails
from reviewapp.storage import store_bytes

SIZES = {"grid": 256, "focus": 1280}  # longest side in pixels


def thumbnail_name(digest: str, size: str) -> str:
    """Return the storage name of an image's thumbnail."""
    return f"thumbnails/{digest[:2]}/{digest}-{size}.webp"


def ensure_thumbnails(digest: str, data: bytes) -> bool:
    """Make the thumbnails of an image that are not there yet; False: it has none.

    Several threads and workers may do it at once, also for the same image.

    Raises:
        ArtefactError: The storage could not take one.
    """
    missing = {
        name: side
        for size, side in SIZES.items()
        if not default_storage.exists(name := thumbnail_name(digest, size))
    }
    if not missing:
        return True
    try:
        made = make_thumbnails(data, longest_sides=list(missing.values()))
    except UnreadableImage:  # the page shows a blank
        return False
    for name, thumbnail in zip(missing, made, strict=True):
        store_bytes(name, thumbnail)
    return True
