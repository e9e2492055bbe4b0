from __future__ import annotations

import threading
import time
from itertools import count

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mining import images
from mining.exceptions import UnreadableImage
from mining.images import decode_image, is_upright_jpeg
from mining.loading import decode_jpeg, load_ahead, load_pixels, preprocess
from mining.types import Preprocessing
from tests.mining.pictures import encode, noise, png


def spec(**changes: object) -> Preprocessing:
    values = {"resize": 16, "crop": (16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Preprocessing(**(values | changes))


@pytest.mark.parametrize("size", [(40, 31), (31, 40), (16, 16), (9, 50), (5, 7)])
@pytest.mark.parametrize("resize", [None, 16, 23])
@pytest.mark.parametrize("crop", [(16, 16), (12, 15)])
def test_it_is_torchvisions_resize_and_centre_crop(size, resize, crop):
    image = noise(1, size=size)
    steps = [v2.Resize(resize)] if resize else []
    expected = v2.Compose([*steps, v2.CenterCrop(crop), v2.PILToTensor()])(image)
    found = preprocess(image, spec(resize=resize, crop=crop))
    assert found.dtype == torch.uint8
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["bicubic", "nearest"])
def test_the_filter_is_the_specs(name):
    image = noise(1, size=(40, 31))
    mode = v2.InterpolationMode(name)
    expected = v2.Compose([v2.Resize(16, mode), v2.CenterCrop(16), v2.PILToTensor()])
    assert torch.equal(preprocess(image, spec(interpolation=name)), expected(image))


def test_grey_has_one_channel():
    grey = spec(mode="L", mean=(0.5,), std=(0.5,))
    assert preprocess(noise(1, mode="L"), grey).shape == (1, 16, 16)


def test_a_tensor_may_be_written_to():
    found = preprocess(Image.new("RGB", (1, 1)), spec(resize=None, crop=(1, 1)))
    assert found.fill_(3).tolist() == [[[3]]] * 3


def test_an_endlessly_thin_image_is_refused():
    with pytest.raises(UnreadableImage, match="too thin"):
        preprocess(Image.new("RGB", (1, 60_000)), spec(resize=224, crop=(224, 224)))


def test_a_small_image_that_becomes_large_is_alone(monkeypatch):
    monkeypatch.setattr(images, "LARGE_PIXELS", 400)
    image, small = Image.new("RGB", (10, 30)), Image.new("RGB", (10, 10))
    with images.one_large_at_a_time((30, 30)):
        threads = [
            threading.Thread(target=preprocess, args=(picture, spec()), daemon=True)
            for picture in (image, small)
        ]
        for thread in threads:
            thread.start()
            thread.join(0.3)
        assert [thread.is_alive() for thread in threads] == [True, False]
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_results_come_in_order_whoever_finishes_first():
    def slow_when_even(number: int) -> int:
        time.sleep(0.02 * (number % 2 == 0))
        return number

    found = load_ahead(range(12), slow_when_even, threads=4, ahead=4)
    assert list(found) == list(range(12))


def test_it_never_runs_further_ahead_than_told():
    taken = []

    def endless():
        for number in count():
            taken.append(number)
            yield number

    results = load_ahead(endless(), lambda number: number, threads=2, ahead=5)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 3 + 5
    results.close()


def test_an_error_comes_out_in_its_place():
    results = load_ahead([1, 0, 2], lambda number: 1 / number, threads=2, ahead=3)
    assert next(results) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(results)


AS_IT_IS = spec(resize=None, crop=(60, 80))


def pixels(image: np.ndarray) -> tuple[object, ...]:
    """Return what two images are compared by: lists of numbers take much longer."""
    return image.shape, image.dtype, image.tobytes()


def pillows(data: bytes, preprocessing: Preprocessing = AS_IT_IS) -> object:
    """Return Pillow's pixels, or its reason against the file."""
    try:
        image = decode_image(data, mode=preprocessing.mode)
        return pixels(preprocess(image, preprocessing).permute(1, 2, 0).numpy())
    except UnreadableImage as error:
        return str(error)


def ours(data: bytes, preprocessing: Preprocessing = AS_IT_IS) -> object:
    try:
        return pixels(load_pixels(data, preprocessing)[0])
    except UnreadableImage as error:
        return str(error)


def photo(size: tuple[int, int] = (80, 60)) -> Image.Image:
    return noise(5, size=(9, 7)).resize(size, Image.Resampling.BICUBIC)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(photo(), "JPEG", exif=exif)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        *(
            (f"subsampling {n}", encode(photo(), "JPEG", subsampling=n))
            for n in range(3)
        ),
        *((f"quality {n}", encode(photo(), "JPEG", quality=n)) for n in (5, 60, 100)),
        *((f"orientation {n}", turned(n)) for n in range(10)),
        ("progressive", encode(photo(), "JPEG", progressive=True)),
        ("restarts", encode(photo(), "JPEG", restart_marker_rows=1)),
        ("grey", encode(photo().convert("L"), "JPEG")),
        ("cmyk", encode(photo().convert("CMYK"), "JPEG")),
        ("keep RGB", encode(photo(), "JPEG", keep_rgb=True)),
        ("odd size", encode(photo((79, 61)), "JPEG")),
        ("one pixel", encode(photo((1, 1)), "JPEG")),
        ("trailing bytes", encode(photo(), "JPEG") + b"more"),
        ("png", png()),
        ("empty", b""),
        ("only a start", b"\xff\xd8\xff"),
    ],
)
def test_a_file_has_pillows_pixels(name, data, mode):
    chosen = AS_IT_IS
    if mode == "L":
        chosen = spec(resize=None, crop=(60, 80), mode="L", mean=(0.5,), std=(0.5,))
    assert ours(data, chosen) == pillows(data, chosen)


def test_a_cut_or_damaged_jpeg_meets_pillows_verdict():
    """A cut every 50 bytes, and one to three bytes changed, 250 times."""
    data = encode(photo((160, 120)), "JPEG", quality=95)
    rng = np.random.default_rng(0)
    cases = [data[:end] for end in range(1, len(data), 50)]
    cases += [data[:-end] for end in range(1, 6)]
    for _ in range(250):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(0, len(data))] = rng.integers(0, 256)
        cases.append(bytes(damaged))
    small = spec(resize=None, crop=(120, 160))
    verdicts = [(ours(case, small), pillows(case, small)) for case in cases]
    assert all(one == other for one, other in verdicts)
    refused = sum(isinstance(one, str) for one, _ in verdicts)
    assert len(data) / 50 <= refused < len(cases)


def test_a_plain_jpeg_is_not_decoded_by_pillow(monkeypatch):
    decoded = []
    monkeypatch.setattr(
        "mining.loading.decode_jpeg",
        lambda data: decoded.append(data) or decode_jpeg(data),
    )
    data = encode(photo(), "JPEG")
    load_pixels(data, AS_IT_IS)
    load_pixels(encode(photo(), "JPEG", progressive=True), AS_IT_IS)
    load_pixels(encode(photo().convert("L"), "JPEG"), AS_IT_IS)
    load_pixels(png(), AS_IT_IS)
    assert decoded == [data]
    assert decode_jpeg(data) is not None
    assert decode_jpeg(data[:200]) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(photo(), "JPEG"), True),
        (encode(photo(), "JPEG") + bytes(3), True),
        (turned(1), True),
        (turned(6), False),
        (encode(photo(), "JPEG", progressive=True), False),
        (encode(photo().convert("L"), "JPEG"), False),
        (encode(photo(), "JPEG")[:-9], False),
        (b"\xff\xd8\xff\xff\xd9", False),
        (png(), False),
        (b"", False),
    ],
)
def test_only_upright_plain_jpegs_are_for_the_gpu(data, expected):
    assert is_upright_jpeg(data) is expected
