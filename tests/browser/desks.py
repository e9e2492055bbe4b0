"""A data set with pictures for the desk's browser tests."""

from __future__ import annotations

import functools
import io
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from PIL import Image

from reviewapp.models import Finding
from reviewapp.thumbnails import SIZES, thumbnail_name

DESK = "/datasets/animals/review/"


def paint(digest: str, place: int) -> None:
    """Store the thumbnails of an image."""
    for size, side in SIZES.items():
        picture = ContentFile(_painted(place, side))
        default_storage.save(thumbnail_name(digest, size), picture)


@functools.cache
def _painted(place: int, side: int) -> bytes:
    """Return a file: a grey square on a colour of the place's own."""
    colour = (40 + place * 37 % 200, 40 + place * 71 % 200, 40 + place * 113 % 200)
    image = Image.new("RGB", (side, side * 3 // 4), colour)
    image.paste((128, 128, 128), (side // 4, side // 4, side // 2, side // 2))
    file = io.BytesIO()
    image.save(file, "WEBP")
    return file.getvalue()


def paint_all() -> None:
    """Store the thumbnails of every finding."""
    for place, digest in enumerate(
        Finding.objects.order_by("id").values_list("digest", flat=True)
    ):
        paint(digest, place)


def start(page: Any) -> None:
    """Go on reviewing, and wait until the desk and the next ones are there.

    The first finding is asked for as the button of the queue's page does it: to load that
    page costs as much as the desk.
    """
    client = Client()
    client.cookies.load(
        {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    )
    first = client.post(f"{DESK}next/")
    with page.expect_response(
        lambda response: response.status == 200 and "/next/" in response.url
    ) as following:
        page.goto(first.url)
    settle(page)
    following.value.finished()
    rest(page)  # their images have come


def rest(page: Any) -> None:
    """Wait until no request was under way twice, 50 ms apart."""
    idle = 0
    while idle < 2:
        page.wait_for_timeout(50)
        idle = 0 if page.requested else idle + 1


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
