from __future__ import annotations

import struct
import threading
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from mining import images
from mining.exceptions import UnreadableImage
from mining.images import decode_image, decoded
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
    assert "more than 100,000,000 pixels" in refusal(png_header(14_000, 14_000))
    assert "9,000 x 11,000" in refusal(png_header(9_000, 11_000), max_pixels=98_000_000)


@pytest.mark.parametrize("size", [(65_501, 1), (1, 65_501)])
def test_it_refuses_a_side_that_is_too_long_from_the_header(size):
    assert "a side of more than 65,500" in refusal(png_header(*size))
    assert "damaged" in refusal(png_header(*(min(side, 65_500) for side in size)))


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


def flatten_at_once(image: Image.Image, mode: str) -> Image.Image:
    """Flatten with whole copies, as the definition says."""
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(white, layer).convert("RGB")
    return image.convert(mode)


def stored_as(mode: str) -> bytes:
    """Return a file of 23 x 40 random pixels that Pillow opens in the mode."""
    random = np.random.default_rng(5)
    if mode == "I;16":
        return encode(
            Image.fromarray(random.integers(0, 65_536, (40, 23)).astype("<u2"))
        )
    noisy = noise(5, size=(23, 40))
    if mode.endswith("A"):
        noisy.putalpha(noise(6, size=(23, 40), mode="L"))
    if mode == "P+t":
        return encode(noisy.quantize(16), transparency=bytes(range(0, 256, 16)))
    if mode == "RGB+t":
        return encode(noisy, transparency=noisy.getpixel((3, 3)))
    return encode(noisy.convert(mode), "TIFF" if mode == "CMYK" else "PNG")


@pytest.mark.parametrize("target", ["RGB", "L"])
@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "P+t", "RGB", "RGB+t", "RGBA", "CMYK", "I;16"]
)
def test_strips_change_no_pixel(monkeypatch, mode, target):
    data = stored_as(mode)
    with Image.open(BytesIO(data)) as image:
        assert image.mode == mode.removesuffix("+t")
        expected = flatten_at_once(image, target)
    for pixels in (images._STRIP_PIXELS, 7 * 23, 1):
        monkeypatch.setattr(images, "_STRIP_PIXELS", pixels)
        found = decode_image(data, mode=target)
        assert (found.mode, found.size) == (target, (23, 40))
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_decoded_image_needs_its_file_no_more(kind, mode):
    data = encode(noise(1, size=(30, 20), mode=mode), kind)
    with Image.open(BytesIO(data)) as image:
        expected = image.convert(mode)
    found = decode_image(data, mode=mode)
    assert np.array_equal(np.asarray(found), np.asarray(expected))
    assert found.resize((3, 2)).tobytes() == expected.resize((3, 2)).tobytes()


def held_by_another(data: bytes) -> bool:
    """Tell whether an image cannot be decoded in another thread at this moment."""
    thread = threading.Thread(target=decode_image, args=(data,), daemon=True)
    thread.start()
    thread.join(0.3)
    return thread.is_alive()


def test_one_large_image_is_decoded_at_a_time(monkeypatch):
    monkeypatch.setattr(images, "LARGE_PIXELS", 99)
    large, small = png(size=(10, 10)), png(size=(9, 11))
    with decoded(large, mode="RGB"):
        assert held_by_another(large)
    assert not held_by_another(large)
    with decoded(large, mode="RGB"):
        assert not held_by_another(small)
    with decoded(small, mode="RGB"):
        assert not held_by_another(large)


def test_a_broken_large_image_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(images, "LARGE_PIXELS", 99)
    refusal(png(size=(60, 60))[:5000])
    assert not held_by_another(png(size=(10, 10)))


def test_a_jpeg_alone_may_come_out_smaller():
    picture = noise(1, size=(800, 400))
    with decoded(encode(picture, "JPEG"), mode="RGB", enough_side=190) as image:
        assert image.size == (200, 100)
    with decoded(encode(picture), mode="RGB", enough_side=190) as image:
        assert image.size == (800, 400)


@pytest.mark.parametrize(
    ("mode", "expected"), [("1", "L"), ("I;16", "L"), ("LA", "RGB"), ("P", "RGB")]
)
def test_an_opaque_grey_image_may_stay_grey(mode, expected):
    with decoded(stored_as(mode), mode=None) as image:
        assert image.mode == expected
        assert image.convert("RGB") == decode_image(stored_as(mode)).convert("RGB")
