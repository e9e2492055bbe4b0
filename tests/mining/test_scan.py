from __future__ import annotations

import hashlib
import math
import threading
from itertools import chain, count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mining.scan import scan_samples
from mining.threads import plan_threads
from mining.types import SampleRef, ScanSettings
from tests.mining.models import small_cnn
from tests.mining.pictures import GREY, encode, noise, png, write
from tests.mining.scans import SETTINGS, Stub, predictor, samples, scan


@torch.inference_mode()
def plain_loop(refs: list[SampleRef]) -> list[np.ndarray]:
    """Classify one image at a time with Pillow, NumPy and the bare network."""
    model, found = small_cnn(), []
    for ref in refs:
        with Image.open(ref.url) as image:
            size = (8, int(8 * image.height / image.width))
            pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        top = round((pixels.shape[0] - 8) / 2)
        x = (pixels[top : top + 8].astype(np.float32) / 255 - 0.5) / 0.25
        logits = model(torch.from_numpy(x)[None, None])[0].numpy().astype(np.float64)
        odds = np.exp(logits - logits.max())
        found.append(odds / odds.sum())
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_it_agrees_with_a_plain_loop(tmp_path, batch_size):
    refs = samples(tmp_path, 30)
    settings = ScanSettings(batch_size=batch_size, top_k=2, precision="float32")
    outcomes = list(chain(*scan(refs, settings=settings)))
    assert len({outcome.predicted for outcome in outcomes}) > 1
    for outcome, ref, probs in zip(outcomes, refs, plain_loop(refs), strict=True):
        order = np.argsort(-probs)
        assert (outcome.id, outcome.key, outcome.digest) == (
            ref.id,
            ref.key,
            ref.digest,
        )
        assert outcome.predicted == order[0]
        assert outcome.top_classes == tuple(order[:2])
        assert outcome.true == ref.label
        assert outcome.confidence == pytest.approx(probs.max(), abs=1e-5)
        assert outcome.p_true == pytest.approx(probs[ref.label], abs=1e-5)
        assert outcome.margin == pytest.approx(
            probs[order[0]] - probs[order[1]], abs=1e-5
        )
        assert outcome.loss == pytest.approx(
            -math.log(probs[ref.label]), rel=1e-4, abs=1e-5
        )
        assert outcome.top_probs == pytest.approx(probs[order[:2]], abs=1e-5)


def test_every_bad_sample_comes_out_in_its_place_with_its_reason(tmp_path):
    refs = samples(tmp_path, 9)
    bad = {
        0: (b"", "the file is empty"),
        3: (png(size=(60, 60))[:500], "truncated"),
        4: (b"no image", "not an image"),
        5: (None, "the file does not exist"),
        7: (png(99), "the file changed since it was registered"),
    }
    for position, (data, _) in bad.items():
        path = Path(refs[position].url)
        if data is None:
            path.unlink()
            continue
        path.write_bytes(data)
        if position != 7:
            digest = hashlib.sha256(data).hexdigest()
            refs[position] = SampleRef(100 + position, path.name, str(path), 0, digest)
    refs[8] = SampleRef(108, "8.png", refs[8].url, 3)
    outcomes = list(chain(*scan(refs)))
    assert [outcome.id for outcome in outcomes] == [ref.id for ref in refs]
    unreadable = [n for n, outcome in enumerate(outcomes) if outcome.is_unreadable]
    assert unreadable == [0, 3, 4, 5, 7, 8]
    for position, (_, reason) in bad.items():
        assert reason in outcomes[position].error
    assert outcomes[8].error == "label 3 is not one of the model's 3 classes"


def test_a_batch_of_nothing_readable_passes(tmp_path):
    refs = [SampleRef(n, "x", str(tmp_path / "x"), 0) for n in range(6)]
    assert [len(batch) for batch in scan(refs)] == [4, 2]


def test_an_output_that_is_not_a_number_costs_only_its_sample(tmp_path):
    class Sometimes(Stub):
        def __call__(self, batch):
            logits = torch.tensor([[1.0, 0.0, 0.0]]).repeat(len(batch), 1)
            logits[1, 2] = math.nan
            return logits

    outcomes = scan(samples(tmp_path, 3), predictor=Sometimes())[0]
    assert [outcome.error for outcome in outcomes] == [
        "", "the model's output is not a number", "",
    ]  # fmt: skip


def test_a_lost_connection_is_no_samples_fault(tmp_path):
    def read(url: str) -> bytes:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        scan(samples(tmp_path, 2), read=read)


def test_a_batch_that_does_not_fit_is_halved_and_stays_so(tmp_path):
    sizes = []

    class Narrow(Stub):
        def __call__(self, batch):
            sizes.append(len(batch))
            if len(batch) > 2:
                raise torch.OutOfMemoryError
            return predictor()(batch)

    refs = samples(tmp_path, 9)
    settings = ScanSettings(batch_size=8, top_k=2, precision="float32", workers=1)
    stub = Narrow()
    narrow = list(chain(*scan(refs, predictor=stub, settings=settings)))
    wide = list(chain(*scan(refs, settings=settings)))
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    scan(refs, predictor=stub, settings=settings)
    assert sizes[7:] == [2, 2, 2, 2, 1]  # the next scan remembers
    assert [o.predicted for o in narrow] == [o.predicted for o in wide]
    assert [o.p_true for o in narrow] == pytest.approx(
        [o.p_true for o in wide], abs=1e-5
    )


def test_one_image_that_does_not_fit_ends_the_scan(tmp_path):
    class Full(Stub):
        def __call__(self, batch):
            raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        scan(samples(tmp_path, 2), predictor=Full())


def test_it_reports_each_batch_and_stops_when_told(tmp_path):
    done = []
    found = scan(
        samples(tmp_path, 12),
        on_batch=done.append,
        should_stop=lambda: len(done) == 2,
    )
    assert done == [4, 4]
    assert [len(batch) for batch in found] == [4, 4]


def test_errors_and_near_misses_are_handed_over_with_their_bytes(tmp_path):
    refs = samples(tmp_path, 12)
    kept = {}
    settings = ScanSettings(batch_size=5, near_miss_below=0.9, precision="float32")

    def keep(outcome, data):
        assert threading.current_thread() is not threading.main_thread()
        kept[outcome.id] = data

    outcomes = list(chain(*scan(refs, settings=settings, keep=keep)))
    wanted = [o.id for o in outcomes if o.is_error or o.is_near_miss(0.9)]
    assert sorted(kept) == wanted
    assert 0 < len(wanted) < 12
    for ref in refs:
        if ref.id in kept:
            assert kept[ref.id] == Path(ref.url).read_bytes()


def test_samples_are_read_a_few_batches_ahead_only(tmp_path):
    (ref,) = samples(tmp_path, 1)
    taken = []
    endless = (taken.append(number) or ref for number in count())
    batches = scan_samples(predictor(), endless, settings=SETTINGS, preprocessing=GREY)
    next(batches)
    plan = plan_threads()
    assert len(taken) <= SETTINGS.batch_size * (plan.lanes + 5) + plan.readers
    batches.close()


def test_a_sample_that_was_unreadable_when_registered_is_not_read(tmp_path):
    def read(url: str) -> bytes:
        raise AssertionError(f"{url} was opened")

    path = write(tmp_path / "a.png")
    ((outcome,),) = scan([SampleRef(1, "a.png", str(path), 0, "")], read=read)
    assert outcome.is_unreadable
    assert outcome.digest == ""
    assert outcome.error == (
        "could not be read when the data set was registered; register the data set again"
    )


def test_the_reason_for_an_unreadable_file_is_storable_text(tmp_path):
    def read(url: str) -> bytes:
        raise OSError("b\0d \udcff")

    ((outcome,),) = scan(samples(tmp_path, 1), read=read)
    assert outcome.error == r"the file cannot be read: b\x00d \udcff"


def test_no_digest_accepts_any_bytes_and_is_filled_in(tmp_path):
    data = encode(noise(1))
    path = write(tmp_path / "a.png", data)
    ((outcome,),) = scan([SampleRef(1, "a.png", str(path), 0)])
    assert outcome.digest == hashlib.sha256(data).hexdigest()
