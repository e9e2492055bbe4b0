from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mining.jpegs import bare_jpeg
from tests.mining.pictures import encode, noise, png

PHOTO = noise(1, size=(60, 40))
PLAIN = encode(PHOTO, "JPEG")


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def with_segment(marker: int, content: bytes) -> bytes:
    """Return the photograph with one more segment, behind its JFIF header."""
    return PLAIN[:20] + segment(marker, content) + PLAIN[20:]


def test_a_plain_jpeg_stays_as_it_is():
    assert bare_jpeg(PLAIN) == PLAIN


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE1, b"Exif\0\0II*\0secret"),
        (0xE0, b"JFXX\0\x10secret"),
        (0xED, b"Photoshop 3.0\0secret"),
        (0xFE, b"<script>secret</script>"),
        (0xEE, b"secret"),
    ],
)
def test_what_pixels_do_not_need_goes(marker, content):
    assert bare_jpeg(with_segment(marker, content)) == PLAIN


def test_exif_and_comment_of_pillow_go():
    exif = Image.Exif()
    exif[0x010E] = "secret"
    data = encode(PHOTO, "JPEG", exif=exif, comment=b"secret", icc_profile=b"secret")
    assert data.count(b"secret") == 3
    bare = bare_jpeg(data)
    assert b"secret" not in bare
    assert np.array_equal(pixels(bare), pixels(data))


def test_channels_keep_their_meaning():
    data = encode(PHOTO, "JPEG", keep_rgb=True)
    assert b"Adobe" in data
    assert np.array_equal(pixels(bare_jpeg(data)), pixels(data))


def test_what_follows_the_end_goes():
    assert bare_jpeg(PLAIN + b"secret") == PLAIN


def test_restarts_are_part_of_a_scan():
    data = encode(noise(1, size=(200, 200)), "JPEG", restart_marker_rows=1)
    assert b"\xff\xd0" in data
    assert bare_jpeg(data) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        png(),
        PLAIN[:2],
        PLAIN[:30],
        PLAIN[:-2],
        PLAIN[:-40],
        PLAIN[:-2] + b"\xff\xc4\0\4\0\0\xff\xd9",
        with_segment(0xC2, b"progressive"),
        PLAIN[:20] + b"\0" + PLAIN[20:],
        PLAIN[:20] + b"\xff\xe1\xff\xff",
        encode(PHOTO, "JPEG", progressive=True),
    ],
)
def test_anything_else_is_refused(data):
    assert bare_jpeg(data) is None


def test_random_damage_raises_nothing():
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        data = np.frombuffer(PLAIN, np.uint8).copy()
        data[rng.integers(0, 700, 3)] = rng.integers(0, 256, 3)
        refused += bare_jpeg(data.tobytes()) is None
    assert 0 < refused < 500
