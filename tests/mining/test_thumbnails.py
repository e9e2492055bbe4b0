from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mining import thumbnails
from mining.exceptions import UnreadableImage
from mining.thumbnails import make_thumbnails
from tests.mining.pictures import encode, noise, png


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


def make_thumbnail(data: bytes, *, longest_side: int) -> bytes:
    (thumbnail,) = make_thumbnails(data, longest_sides=[longest_side])
    return thumbnail


def test_several_sizes_come_from_one_decoding(monkeypatch):
    decodings = []
    decoded = thumbnails.decoded

    def counted(*arguments, **options):
        decodings.append(arguments)
        return decoded(*arguments, **options)

    monkeypatch.setattr(thumbnails, "decoded", counted)
    made = make_thumbnails(png(size=(800, 400)), longest_sides=[100, 320])
    assert [opened(data).size for data in made] == [(100, 50), (320, 160)]
    assert len(decodings) == 1


@pytest.mark.parametrize(
    ("size", "longest_side", "expected"),
    [
        ((800, 400), 320, (320, 160)),
        ((100, 300), 320, (100, 300)),
        ((28, 28), 320, (56, 56)),
        ((28, 14), 512, (112, 56)),
        ((96, 96), 320, (96, 96)),
        ((50, 50), 32, (32, 32)),
    ],
)
def test_sizes(size, longest_side, expected):
    thumbnail = opened(make_thumbnail(png(size=size), longest_side=longest_side))
    assert thumbnail.size == expected
    assert thumbnail.format == "WEBP"


def test_small_images_keep_hard_pixel_edges():
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, 4:] = 255
    data = make_thumbnail(encode(Image.fromarray(pixels)), longest_side=256)
    row = np.asarray(opened(data).convert("L"))[32]
    assert row[:30].max() < 20
    assert row[34:].min() > 235


def test_the_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(noise(1, size=(200, 100)), "JPEG", exif=exif)
    assert opened(make_thumbnail(data, longest_side=200)).size == (100, 200)


def test_the_same_bytes_give_the_same_thumbnail():
    first, second = (
        make_thumbnail(png(size=(300, 200)), longest_side=100) for _ in "ab"
    )
    assert first == second


def test_it_refuses_a_broken_original():
    with pytest.raises(UnreadableImage):
        make_thumbnail(b"", longest_side=100)


def test_it_refuses_a_side_of_nothing():
    with pytest.raises(ValueError, match="above 0"):
        make_thumbnail(png(), longest_side=0)


def test_a_grey_image_is_made_small_as_a_coloured_one_is():
    grey = noise(1, size=(400, 300), mode="L")
    coloured = make_thumbnail(encode(grey.convert("RGB")), longest_side=100)
    assert make_thumbnail(encode(grey), longest_side=100) == coloured


def test_a_jpeg_decoded_smaller_looks_the_same(monkeypatch):
    steps = np.linspace(0, 255, 1601, dtype=np.uint8)
    data = encode(Image.fromarray(np.tile(steps, (1200, 1))).convert("RGB"), "JPEG")
    quick = opened(make_thumbnail(data, longest_side=100)).convert("RGB")
    monkeypatch.setattr(thumbnails, "_OVERSAMPLING", 100)
    slow = opened(make_thumbnail(data, longest_side=100)).convert("RGB")
    assert quick.size == slow.size == (100, 75)
    assert np.abs(np.asarray(quick, int) - np.asarray(slow, int)).max() <= 8  # of 255
