from __future__ import annotations

import threading
import time
from itertools import count

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mining import images
from mining.exceptions import UnreadableImage
from mining.loading import load_ahead, preprocess
from mining.types import Preprocessing
from tests.mining.pictures import noise


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
