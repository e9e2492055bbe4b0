"""A data set with pictures for the desk's browser tests."""

from __future__ import annotations

import io
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from PIL import Image

from reviewapp.models import Finding
from reviewapp.thumbnails import SIZES, thumbnail_name

DESK = "/datasets/animals/review/"


def paint(digest: str, place: int) -> None:
    """Store the thumbnails of an image: a disc's grey on a colour of its own."""
    colour = (40 + place * 37 % 200, 40 + place * 71 % 200, 40 + place * 113 % 200)
    for size, side in SIZES.items():
        image = Image.new("RGB", (side, side * 3 // 4), colour)
        image.paste((128, 128, 128), (side // 4, side // 4, side // 2, side // 2))
        file = io.BytesIO()
        image.save(file, "WEBP")
        default_storage.save(thumbnail_name(digest, size), ContentFile(file.getvalue()))


def paint_all() -> None:
    """Store the thumbnails of every finding."""
    for place, digest in enumerate(
        Finding.objects.order_by("id").values_list("digest", flat=True)
    ):
        paint(digest, place)


def start(page: Any, address: str = DESK) -> None:
    """Start reviewing, and wait until the desk and the next ones are there."""
    page.goto(address)
    page.click("text=Start reviewing")
    settle(page)
    page.wait_for_load_state("networkidle")  # the next desks have come


def settle(page: Any) -> None:
    """Wait until the desk's script has begun and every verdict is answered."""
    page.wait_for_selector("html.is-ready", state="attached")
    page.wait_for_function("() => !window.hardmine.outbox.entries().length")


def on_desk(page: Any) -> int:
    """Wait until a finding is shown and return its id."""
    return int(page.get_attribute("#desk[data-finding]", "data-finding"))


def press(page: Any, key: str) -> int:
    """Press a key that takes the finding away; return the finding that was judged."""
    judged = on_desk(page)
    page.keyboard.press(key)
    page.wait_for_function(
        "id => document.getElementById('desk')?.dataset.finding !== id",
        arg=str(judged),
    )
    return judged
