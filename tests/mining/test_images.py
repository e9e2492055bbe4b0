from __future__ import annotations

import struct
import threading
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from mining.exceptions import UnreadableImage
from mining.images import decode_image
from tests.mining.pictures import encode, noise, png


def refusal(data: bytes, **options: object) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode_image(data, **options)
    return str(caught.value)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP"])
def test_every_format_is_decoded_to_rgb(kind):
    image = decode_image(encode(noise(1), kind))
    assert (image.mode, image.size) == ("RGB", (10, 12))


def test_a_lossless_image_keeps_its_pixels():
    assert decode_image(png(3)).tobytes() == noise(3).tobytes()


def test_it_refuses_an_empty_file():
    assert refusal(b"") == "the file is empty (0 bytes)"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_it_refuses_a_truncated_image(kind, part):
    whole = encode(noise(2, size=(60, 60)), kind)
    cut = whole[: int(len(whole) * part)]
    assert "truncated" in refusal(cut) or "damaged" in refusal(cut)


def test_a_truncated_image_says_where_it_ends():
    cut = png(size=(60, 60))[:5000]
    assert "truncated or damaged; the file ends after 5,000 bytes" in refusal(cut)


@pytest.mark.parametrize(
    "data",
    [b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"\0" * 99],
)
def test_it_refuses_what_is_no_image(data):
    assert refusal(data).startswith("not an image in a format")


def test_it_refuses_formats_that_are_not_on_the_list():
    assert "not an image in a format" in refusal(encode(noise(1), "PPM"))


def test_it_refuses_damaged_pixels():
    data = bytearray(png(size=(60, 60)))
    data[200:260] = b"\0" * 60
    assert "damaged" in refusal(bytes(data))


def test_it_refuses_a_decompression_bomb_from_its_header():
    assert "more than 200,000,000 pixels" in refusal(png_header(50_000, 50_000))
    assert "14,000 x 14,200" in refusal(
        png_header(14_000, 14_200), max_pixels=198_000_000
    )


def test_the_limit_of_pixels_is_the_callers():
    assert decode_image(png(size=(10, 10)), max_pixels=100).size == (10, 10)
    assert "10 x 10 pixels, more than 99" in refusal(png(size=(10, 10)), max_pixels=99)


def test_cmyk_becomes_rgb():
    data = encode(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = decode_image(data).getpixel((1, 1))
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    wide = np.array([[0, 257, 32_896, 65_535]], np.uint16)
    image = decode_image(encode(Image.fromarray(wide), kind), mode="L")
    assert list(image.tobytes()) == [0, 1, 128, 255]


def test_floating_point_pixels_are_refused_with_advice():
    data = encode(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")
    assert "8 or 16 bits" in refusal(data)


def test_a_transparent_palette_lies_on_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    flat = decode_image(encode(image, transparency=0))
    assert flat.getpixel((0, 0)) == (255, 255, 255)
    assert flat.getpixel((1, 0)) == (200, 0, 0)


def test_half_transparent_pixels_are_mixed_with_white():
    flat = decode_image(encode(Image.new("LA", (1, 1), (0, 128))))
    assert flat.getpixel((0, 0)) == (127, 127, 127)


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(noise(4, size=(16, 8)), exif=exif)
    with Image.open(BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image)
    assert decode_image(data).tobytes() == expected.tobytes()


def test_a_damaged_exif_block_does_not_cost_the_image():
    data = encode(noise(4), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert decode_image(data).size == (10, 12)


def test_no_warning_leaves_whatever_the_threads():
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"
    data = encode(noise(4), "JPEG", exif=exif)
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode_image(data) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
