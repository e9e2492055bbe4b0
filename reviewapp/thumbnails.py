"""Thumbnails: made once by the worker, named by the image's digest."""

from __future__ import annotations

from django.core.files.storage import default_storage

from mining.exceptions import UnreadableImage
from mining.thumbnails import make_thumbnail
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
    for size, side in SIZES.items():
        name = thumbnail_name(digest, size)
        if default_storage.exists(name):
            continue
        try:
            thumbnail = make_thumbnail(data, longest_side=side)
        except UnreadableImage:  # the page shows a blank
            return False
        store_bytes(name, thumbnail)
    return True
