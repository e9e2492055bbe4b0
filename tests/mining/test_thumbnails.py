from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mining import thumbnails
from mining.exceptions import UnreadableImage
from mining.thumbnails import AS_IT_IS, make_thumbnails
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
    ("size", "longest_side", "expected", "kind"),
    [
        ((800, 400), 320, (320, 160), "JPEG"),
        ((100, 300), 320, (100, 300), "JPEG"),
        ((28, 28), 320, (56, 56), "WEBP"),
        ((28, 14), 512, (112, 56), "WEBP"),
        ((96, 96), 320, (96, 96), "WEBP"),
        ((50, 50), 32, (32, 32), "WEBP"),
    ],
)
def test_sizes(size, longest_side, expected, kind):
    thumbnail = opened(make_thumbnail(png(size=size), longest_side=longest_side))
    assert thumbnail.size == expected
    assert thumbnail.format == kind


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_small_images_keep_every_pixel(mode):
    image = noise(1, size=(28, 20), mode=mode)
    thumbnail = opened(make_thumbnail(encode(image), longest_side=256))
    assert thumbnail.size == (56, 40)
    wanted = np.asarray(image.convert("RGB")).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(np.asarray(thumbnail), wanted)


def photo(**options: object) -> bytes:
    return encode(noise(1, size=(200, 150)), "JPEG", **options)


def test_a_small_plain_jpeg_keeps_its_pixels_and_loses_its_exif_data():
    exif = Image.Exif()
    exif[0x010E] = "secret"
    data = photo(exif=exif, comment=b"secret")
    made = make_thumbnail(data, longest_side=200)
    assert b"secret" not in made
    assert np.array_equal(np.asarray(opened(made)), np.asarray(opened(data)))


@pytest.mark.parametrize("longest_side", [100, 300])
@pytest.mark.parametrize(
    "data",
    [
        photo(progressive=True, comment=b"secret"),
        photo(comment=b"secret") + bytes(AS_IT_IS),
        encode(noise(1, size=(200, 150), mode="L"), "JPEG", comment=b"secret"),
        encode(noise(1, size=(200, 150)), "PNG", icc_profile=b"secret"),
        encode(noise(1, size=(80, 60)), "PNG", icc_profile=b"secret"),
    ],
)
def test_others_are_encoded_again(data, longest_side):
    made = make_thumbnail(data, longest_side=longest_side)
    assert b"secret" not in made
    assert max(opened(made).size) == min(longest_side, max(opened(data).size))


def test_a_cut_jpeg_has_none():
    data = photo()
    with pytest.raises(UnreadableImage):
        make_thumbnail(data[: len(data) // 2], longest_side=200)


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


@pytest.mark.parametrize(
    ("side", "expected"), [(500, (250, 188)), (580, (256, 192)), (400, (256, 192))]
)
def test_a_jpeg_may_be_a_little_smaller_than_it_could(side, expected):
    data = encode(noise(1, size=(side, side * 3 // 4)), "JPEG")
    assert opened(make_thumbnail(data, longest_side=256)).size == expected


def test_a_grey_image_is_made_small_as_a_coloured_one_is():
    grey = noise(1, size=(400, 300), mode="L")
    coloured = make_thumbnail(encode(grey.convert("RGB")), longest_side=100)
    assert make_thumbnail(encode(grey), longest_side=100) == coloured


def test_a_jpeg_decoded_smaller_looks_the_same(monkeypatch):
    steps = np.linspace(0, 255, 1600, dtype=np.uint8)
    data = encode(Image.fromarray(np.tile(steps, (1200, 1))).convert("RGB"), "JPEG")
    quick = opened(make_thumbnail(data, longest_side=200)).convert("RGB")
    monkeypatch.setattr(thumbnails, "_NEARLY", 100)
    slow = opened(make_thumbnail(data, longest_side=200)).convert("RGB")
    assert quick.size == slow.size == (200, 150)
    assert np.abs(np.asarray(quick, int) - np.asarray(slow, int)).max() <= 8  # of 255
