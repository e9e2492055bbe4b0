from __future__ import annotations

import math
import threading
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch

from mining import feeder, gpu_decoding
from mining.feeder import feed, fitting_batch
from mining.lanes import Lane
from mining.loading import decode_jpeg
from mining.pace import Pace
from mining.predictors import TorchPredictor
from mining.reading import Reader
from mining.scan import scan_samples
from mining.types import ScanSettings
from tests.mining.models import small_cnn
from tests.mining.pictures import COLOUR, GREY, SPEC, encode, noise, png
from tests.mining.scans import CPU, Stub, samples, scan

SETTINGS = ScanSettings(batch_size=20)


def model(precision: str = "bfloat16") -> TorchPredictor:
    return TorchPredictor(small_cnn(), SPEC, url="m", device=CPU, precision=precision)


def fed(
    predictor, refs, *, preprocessing=GREY, decode="cpu", pace=None, size=20, **options
):
    pace = pace or Pace()
    lane = Lane(
        predictor,
        settings=options.get("settings", SETTINGS),
        preprocessing=preprocessing,
        keep=options.get("keep"),
        pace=pace,
    )
    reader = Reader(n_classes=3, read=lambda url: Path(url).read_bytes(), pace=pace)
    batches = reader.batches(refs, size=size, threads=2, keep_ahead=2)
    found = list(feed(batches, lane, threads=2, decode=decode))
    batches.close()
    return found


def test_feeding_gives_what_lanes_give(tmp_path):
    refs = samples(tmp_path, 75)
    Path(refs[3].url).unlink()
    Path(refs[50].url).write_bytes(b"broken")
    pace = Pace()
    found = fed(model(), refs, pace=pace)
    wanted = scan(refs, predictor=model(), settings=SETTINGS)
    assert [len(batch) for batch in found] == [20, 20, 20, 15]
    assert [repr(o) for o in chain(*found)] == [repr(o) for o in chain(*wanted)]
    assert pace.to_dict()["decode"] == "cpu"


def test_a_batch_of_nothing_readable_passes(tmp_path):
    refs = samples(tmp_path, 5)
    for ref in refs:
        Path(ref.url).unlink()
    ((*outcomes,),) = fed(model(), refs)
    assert all(outcome.is_unreadable for outcome in outcomes)


def test_two_batches_are_started_before_one_is_waited_for(tmp_path):
    order = []

    class Asynchronous(Stub):
        def start(self, batch):
            number = sum(kind == "start" for kind, _ in order)
            order.append(("start", number))

            def wait():
                order.append(("wait", number))
                return self(batch)

            return wait

    fed(Asynchronous(), samples(tmp_path, 8), size=2)
    assert order.index(("start", 1)) < order.index(("wait", 0))
    assert order.index(("start", 2)) > order.index(("wait", 0))
    assert [number for kind, number in order if kind == "wait"] == [0, 1, 2, 3]


def test_pictures_are_kept_by_the_threads(tmp_path):
    names = set()
    fed(
        model(),
        samples(tmp_path, 40),
        keep=lambda *_: names.add(threading.current_thread().name[:6]),
    )
    assert names == {"decode"}


@pytest.fixture
def photos(tmp_path):
    """Nine colour JPEGs of two sizes, one turned, a PNG, a cut one and one that is gone."""
    refs = samples(tmp_path, 12)
    for number, ref in enumerate(refs[:9]):
        image = noise(number, size=(40, 30) if number % 2 else (30, 50))
        options = {}
        if number == 4:
            exif = image.getexif()
            exif[0x0112] = 6
            options["exif"] = exif
        Path(ref.url).write_bytes(encode(image, "JPEG", **options))
    Path(refs[9].url).write_bytes(png(3))
    Path(refs[10].url).write_bytes(encode(noise(10), "JPEG")[:-20])
    Path(refs[11].url).unlink()
    return [type(ref)(ref.id, ref.key, ref.url, ref.label) for ref in refs]


class Colourful(Stub):
    """Tells the mean of each channel, more or less."""

    rounding = 2.0**-8

    def __call__(self, batch):
        return batch.float().mean((2, 3)) / 10

    def start(self, batch):
        logits = self(batch)
        return lambda: logits


def on_the_cpu(data, device):
    """Stand in for the GPU's decoder; it refuses what it cannot do."""
    images = [decode_jpeg(one) for one in data]
    if any(image is None for image in images):
        raise RuntimeError("nvJPEG refused")
    return [
        torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        .view(image.height, image.width, 3)
        .permute(2, 0, 1)
        for image in images
    ]


@pytest.mark.parametrize("refuses", [False, True])
def test_a_gpu_decodes_plain_jpegs_and_the_cpu_the_rest(photos, monkeypatch, refuses):
    given = []

    def decoder(data, device):
        given.extend(data)
        if refuses:
            raise RuntimeError("nvJPEG refused")
        return on_the_cpu(data, device)

    monkeypatch.setattr(gpu_decoding, "decode_jpegs", decoder)
    pace = Pace()
    options = {"preprocessing": COLOUR, "pace": pace}
    ((*found,),) = fed(Colourful(), photos, decode="gpu", **options)
    ((*wanted,),) = fed(Colourful(), photos, decode="cpu", **options)
    assert given == [
        Path(ref.url).read_bytes() for n, ref in enumerate(photos[:9]) if n != 4
    ]
    assert [o.error for o in found] == [o.error for o in wanted]
    assert [o.is_unreadable for o in found] == [False] * 10 + [True] * 2
    for one, other in zip(found[:10], wanted[:10], strict=True):
        # The GPU's filter may round the other way: a level is a tenth of a logit here.
        assert one.predicted == other.predicted
        assert one.p_true == pytest.approx(other.p_true, abs=0.05)


def test_near_ties_are_decoded_by_the_cpu_again(photos, monkeypatch):
    class Even(Colourful):
        def __call__(self, batch):
            return torch.zeros(len(batch), 3)

        def exact(self, batch):
            return batch.float().mean((2, 3))

    def nonsense(data, device):
        return [torch.zeros(3, 30, 30, dtype=torch.uint8) for _ in data]

    monkeypatch.setattr(gpu_decoding, "decode_jpegs", nonsense)
    options = {"preprocessing": COLOUR}
    ((*found,),) = fed(Even(), photos, decode="gpu", **options)
    ((*wanted,),) = fed(Even(), photos, decode="cpu", **options)
    assert repr(unseen(found)) == repr(unseen(wanted))


def unseen(outcomes):
    return [replace(outcome, look=None) for outcome in outcomes]


def test_of_what_a_gpu_decodes_only_findings_have_a_look(photos, monkeypatch):
    monkeypatch.setattr(gpu_decoding, "decode_jpegs", on_the_cpu)
    only_errors = ScanSettings(batch_size=20, near_miss_below=0.0)
    options = {"preprocessing": COLOUR, "settings": only_errors}
    ((*found,),) = fed(Colourful(), photos, decode="gpu", **options)
    ((*wanted,),) = fed(Colourful(), photos, decode="cpu", **options)
    others = {outcome.key for outcome in found if outcome.look is None}
    for one, other in zip(found, wanted, strict=True):
        assert one.look == (None if one.key in others else other.look)
        if not one.is_unreadable:
            assert other.look is not None
            assert one.look or not one.is_error
    by_gpu = [o for o in found if not o.is_unreadable and o.key in others]
    assert 0 < len(by_gpu) < 10


@pytest.mark.parametrize(
    ("seconds", "expected"), [((1.0, 2.0), "cpu"), ((2.0, 1.0), "gpu")]
)
def test_auto_takes_the_faster_decoder_and_remembers(
    photos, monkeypatch, seconds, expected
):
    measured = iter(seconds)
    monkeypatch.setattr(feeder, "_seconds", lambda work: work() or next(measured))
    monkeypatch.setattr(gpu_decoding, "decode_jpegs", on_the_cpu)
    stub, pace = Colourful(), Pace()
    options = {"preprocessing": COLOUR, "decode": "auto", "pace": pace}
    (first,) = fed(stub, photos, **options)
    assert pace.to_dict()["decode"] == expected
    (second,) = fed(stub, photos, **options)  # nothing is left to measure with
    assert repr(first) == repr(second)
    assert len(first) == 12


@pytest.mark.parametrize("decode", ["auto", "gpu"])
def test_float32_is_never_decoded_on_the_gpu(photos, decode, monkeypatch):
    monkeypatch.delattr(gpu_decoding, "decode_jpegs")
    pace = Pace()
    stub = Colourful()
    stub.rounding = 0.0
    fed(stub, photos, preprocessing=COLOUR, decode=decode, pace=pace)
    assert pace.to_dict()["decode"] == "cpu"


def test_what_does_not_fit_on_the_gpu_is_halved(tmp_path):
    class Narrow(Stub):
        def start(self, batch):
            if len(batch) > 5:
                raise torch.OutOfMemoryError
            return lambda: self(batch)

    stub = Narrow()
    found = fed(stub, samples(tmp_path, 20))
    assert [len(batch) for batch in found] == [20]
    assert stub.found.batch_limit == 5


def test_the_size_of_batches_on_a_cpu():
    assert fitting_batch(Stub(), GREY) == 16


def test_an_error_of_the_model_comes_out(tmp_path):
    class Broken(Stub):
        def start(self, batch):
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        fed(Broken(), samples(tmp_path, 90), size=4)


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device"
)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("decode", ["cpu", "gpu", "auto"])
def test_a_gpu_scan_agrees_with_the_cpu(photos, decode):
    gpu = TorchPredictor(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)),
        type(SPEC)("safetensors", "x", SPEC.classes, COLOUR),
        url="m",
        device=torch.device("cuda"),
        precision="bfloat16",
    )
    cpu = TorchPredictor(
        gpu._exact.cpu(),
        type(SPEC)("safetensors", "x", SPEC.classes, COLOUR),
        url="m",
        device=CPU,
        precision="float32",
    )
    gpu._exact.cuda()
    settings = ScanSettings(decode=decode)
    pair = [
        list(chain(*scan_samples(one, photos, settings=settings, preprocessing=COLOUR)))
        for one in (gpu, cpu)
    ]
    for found, wanted in zip(*pair, strict=True):
        assert (found.error, found.predicted) == (wanted.error, wanted.predicted)
        if not math.isnan(wanted.p_true):
            assert found.p_true == pytest.approx(wanted.p_true, abs=0.05)
