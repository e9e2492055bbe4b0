"""The settings of production, with images that samples share and `review_urls`."""

from __future__ import annotations

from django.core.files.storage import FileSystemStorage

from reviewapp.settings import *  # noqa: F403
from reviewapp.settings import STORAGES

ROOT_URLCONF = "tests.benchmarks.review_urls"
STORAGES = {
    **STORAGES,
    "default": {"BACKEND": "tests.benchmarks.review_site.SharedImages"},
}


class SharedImages(FileSystemStorage):
    """Files on disk; the thumbnail of a digest is one of a few hundred."""

    def path(self, name: str) -> str:
        folder, _, file = name.rpartition("/")
        if folder.startswith("thumbnails/"):
            from tests.benchmarks.rows_of_findings import IMAGES, shared_name

            digest, _, size = file.removesuffix(".webp").partition("-")
            name = shared_name(int(digest[:12], 16) % IMAGES, size)
        return super().path(name)
