from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mining.exceptions import UnreadableImage
from mining.images import FORMATS, file_type
from mining.looks import look_at, look_of
from tests.mining.pictures import encode, noise, png


def photo(size: tuple[int, int] = (500, 375), *, seed: int = 5) -> Image.Image:
    return noise(seed, size=(24, 18)).resize(size, Image.Resampling.BICUBIC)


def phash(image: Image.Image) -> int:
    found = look_of(image, b"").phash
    assert found is not None
    return found


def distance(one: int, other: int) -> int:
    return ((one ^ other) & (2**64 - 1)).bit_count()


def by_definition(image: Image.Image) -> int:
    """Return the bits of the 8 x 8 lowest cosines, each against their median."""
    grey = np.asarray(image.convert("L"), float)  # (32, 32)
    x = (2 * np.arange(32) + 1) * np.pi / 64
    found = np.array(
        [
            (grey * np.outer(np.cos(v * x), np.cos(u * x))).sum()
            for v in range(1, 9)
            for u in range(1, 9)
        ]
    )
    bits = "".join("1" if one > np.median(found) else "0" for one in found)
    return int(bits, 2) - (2**64 if bits[0] == "1" else 0)


@pytest.mark.parametrize("seed", range(5))
def test_a_hash_is_the_signs_of_the_lowest_cosines(seed):
    image = noise(seed, size=(32, 32), mode="L")
    # A coefficient at the very median may fall on either side of it.
    assert distance(phash(image), by_definition(image)) <= 1


def test_copies_have_a_hash_nearby_and_other_images_have_not():
    image = photo()
    copies = [
        image.resize((320, 240), Image.Resampling.BICUBIC),
        image.convert("L"),
        image.point(lambda level: level * 9 // 10),
        Image.open(BytesIO(encode(image, "JPEG", quality=40))),
    ]
    assert [distance(phash(image), phash(copy)) <= 4 for copy in copies] == [True] * 4
    others = [distance(phash(image), phash(photo(seed=seed))) for seed in range(6, 20)]
    assert min(others) > 10


def test_a_flat_image_has_no_hash():
    assert look_of(Image.new("RGB", (300, 200), "grey"), b"").phash is None


def test_brightness_and_contrast_of_a_half_white_image():
    image = Image.new("L", (128, 64))
    image.paste(255, (64, 0, 128, 64))
    look = look_of(image, b"")
    assert (look.brightness, look.contrast) == (0.5, 0.5)


def test_sharpness_is_the_variance_of_the_laplacian():
    grey = np.zeros((5, 5), np.uint8)
    grey[2, 2] = 10  # of the nine inner ones: -40 once, 10 four times, 0 else
    look = look_of(Image.fromarray(grey), b"")
    assert look.sharpness == pytest.approx(2000 / 9)


def test_a_blurred_copy_is_less_sharp():
    image = noise(1, size=(200, 200))
    blurred = image.filter(ImageFilter.GaussianBlur(4))
    assert look_of(blurred, b"").sharpness < look_of(image, b"").sharpness / 4


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5000), (5000, 2)])
def test_tiny_and_thin_images_have_a_look(size):
    look = look_of(noise(2, size=size), b"")
    assert (look.width, look.height) == size
    assert look.sharpness >= 0


def test_size_and_type_are_those_of_the_file_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(photo((80, 60)), "JPEG", exif=exif)
    look = look_at(data)
    assert (look.width, look.height) == (60, 80)
    assert (look.file_type, look.size) == ("JPEG", len(data))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_that_is_read_has_a_type(kind):
    assert file_type(encode(photo((8, 6)), kind)) == kind


def test_a_damaged_file_has_no_look():
    with pytest.raises(UnreadableImage, match="truncated"):
        look_at(png()[:60])
