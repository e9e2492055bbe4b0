from __future__ import annotations

import dataclasses
import math
import threading
import time
from itertools import chain, count
from pathlib import Path

import pytest
import torch
from torch import nn

from mining.exceptions import BadCheckpoint
from mining.pace import Pace
from mining.predictors import TorchPredictor
from mining.scan import scan_samples
from mining.threads import plan_threads
from mining.types import SampleRef, ScanSettings
from tests.mining.models import small_cnn
from tests.mining.pictures import GREY, SPEC, png
from tests.mining.scans import CPU, Stub, samples, scan


def test_unreadable_samples_that_show_something_are_handed_over(tmp_path):
    refs = samples(tmp_path, 5)
    Path(refs[0].url).write_bytes(png(99))  # changed, and a picture
    Path(refs[1].url).write_bytes(b"no picture")  # changed, and none
    Path(refs[2].url).unlink()
    (tmp_path / "broken").write_bytes(b"")
    refs[3] = SampleRef(103, "broken", str(tmp_path / "broken"), 0)
    kept = {}

    class NotANumber(Stub):
        def __call__(self, batch):
            return torch.full((len(batch), 3), math.nan)

    outcomes = scan(
        refs,
        predictor=NotANumber(),
        keep=lambda o, data: kept.update({o.id: (o, data)}),
    )
    assert sorted(kept) == [100, 104]
    changed, data = kept[100]
    assert "changed" in changed.error
    assert (changed.digest, data) == (refs[0].digest, png(99))
    assert kept[104][0].error == "the model's output is not a number"
    assert all(outcome.is_unreadable for outcome in chain(*outcomes))


def test_two_lanes_run_the_model_at_the_same_time(tmp_path):
    both = threading.Barrier(2, timeout=60)
    threads = set()

    class Together(Stub):
        def __call__(self, batch):
            threads.add(torch.get_num_threads())
            both.wait()
            return super().__call__(batch)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    settings = ScanSettings(batch_size=2, workers=2)
    scan(samples(tmp_path, 8), predictor=Together(), settings=settings)
    assert threads == {1}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_the_same_samples_give_the_same_bits_however_many_lanes(tmp_path):
    refs = samples(tmp_path, 40)
    Path(refs[9].url).unlink()
    runs = [
        list(
            chain(
                *scan(
                    refs,
                    predictor=TorchPredictor(
                        small_cnn(), SPEC, url="m", device=CPU, precision="bfloat16"
                    ),
                    settings=ScanSettings(batch_size=6, workers=lanes),
                )
            )
        )
        for lanes in (1, 3, 3)
    ]
    first, *others = [
        [
            (o.id, o.predicted, *o.top_probs, o.loss if o.loss == o.loss else None)
            for o in run
        ]
        for run in runs
    ]
    assert others == [first, first]


def working_threads() -> list[str]:
    """Return the names of the threads that read or compute."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("read", "lane"))]


def test_an_error_of_a_lane_comes_out_and_ends_the_reading(tmp_path):
    class Refuses(Stub):
        def __call__(self, batch):
            raise BadCheckpoint("m cannot take images")

    reads = []

    def read(url: str) -> bytes:
        reads.append(url)
        return Path(url).read_bytes()

    (ref,) = samples(tmp_path, 1)
    with pytest.raises(BadCheckpoint):
        scan((ref for _ in count()), predictor=Refuses(), read=read)
    assert not working_threads()
    held = len(reads)
    time.sleep(0.05)
    assert len(reads) == held


def test_closing_waits_for_the_batches_at_work_and_reads_no_more(tmp_path):
    begun = []

    class Slow(Stub):
        def __call__(self, batch):
            begun.append(len(batch))
            time.sleep(0.05)
            return super().__call__(batch)

    (ref,) = samples(tmp_path, 1)
    settings = ScanSettings(batch_size=4, workers=2)
    batches = scan_samples(
        Slow(), (ref for _ in count()), settings=settings, preprocessing=GREY
    )
    next(batches)
    at_work = len(begun)
    batches.close()
    assert len(begun) <= at_work + 2
    assert not working_threads()


def test_cancelling_stops_within_a_batch(tmp_path):
    begun, asked = [], []

    class Counting(Stub):
        def __call__(self, batch):
            begun.append(len(batch))
            return super().__call__(batch)

    def should_stop() -> bool:
        asked.append(len(begun))
        return len(begun) >= 1

    settings = ScanSettings(batch_size=1, workers=1)
    found = scan(
        samples(tmp_path, 30),
        predictor=Counting(),
        settings=settings,
        should_stop=should_stop,
    )
    assert found == []
    assert len(begun) <= 4  # those that were submitted before
    assert asked[0] == 0


def test_a_pace_says_what_was_done(tmp_path):
    pace = Pace()
    refs = samples(tmp_path, 10)
    scan(refs, pace=pace)
    found = pace.to_dict()
    plan = plan_threads()
    assert found["images"] == 10
    assert (found["lanes"], found["readers"]) == (plan.lanes, plan.readers)
    assert (found["device"], found["precision"], found["decode"]) == (
        "cpu", "float32", "cpu",
    )  # fmt: skip
    assert found["batch_size"] == 4
    assert min(found[part] for part in ("model_s", "decode_s", "seconds")) > 0
    assert found["rechecked"] == found["changed"] == 0


def test_a_batch_size_is_found(tmp_path):
    pace = Pace()
    found = scan(samples(tmp_path, 20), settings=ScanSettings(), pace=pace)
    assert [len(batch) for batch in found] == [16, 4]
    assert pace.to_dict()["batch_size"] == 16


class Tied(nn.Module):
    """Logits that differ by less than bfloat16 can hold."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            nn.init.normal_(self.head.weight[:1], std=0.1)
        with torch.no_grad():
            nudge = torch.linspace(-1e-3, 1e-3, 64)
            self.head.weight[1] = self.head.weight[0] + nudge
            self.head.weight[2] = -self.head.weight[0]
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(x.flatten(1))


class AllTied(Tied):
    """All three logits of every sample that near to each other."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.head.weight[2] = 2 * self.head.weight[0] - self.head.weight[1]


@pytest.mark.parametrize("workers", [1, 2, 6])
def test_auto_is_float32_where_bfloat16_is_too_coarse(tmp_path, workers):
    refs = samples(tmp_path, 60)
    exact, low = (
        TorchPredictor(AllTied(), SPEC, url="m", device=CPU, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    settings = ScanSettings(batch_size=10, near_miss_below=0.0, workers=workers)
    pace = Pace()
    found = list(chain(*scan(refs, predictor=low, pace=pace, settings=settings)))
    truth = list(chain(*scan(refs, predictor=exact, settings=settings)))
    assert [o.predicted for o in found] == [o.predicted for o in truth]
    assert found[40:] == truth[40:]  # four batches tell
    assert (pace.to_dict()["precision"], pace.to_dict()["rechecked"]) == ("float32", 40)
    asked = dataclasses.replace(settings, precision="bfloat16")
    pace = Pace()
    scan(refs, predictor=low, pace=pace, settings=asked)
    assert (pace.to_dict()["precision"], pace.to_dict()["rechecked"]) == (
        "bfloat16",
        60,
    )


@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_of_an_early_batch_comes_out_itself(tmp_path, failing):
    class Refusing(Stub):
        rounding = 2.0**-8
        calls = count()

        def __call__(self, batch):
            if next(self.calls) == failing:
                raise BadCheckpoint("no")
            return super().__call__(batch)

    settings = ScanSettings(batch_size=10, workers=1)
    with pytest.raises(BadCheckpoint, match="no"):
        scan(samples(tmp_path, 60), predictor=Refusing(), settings=settings)


def test_what_rounding_could_decide_is_computed_again(tmp_path):
    refs = samples(tmp_path, 60)
    settings = ScanSettings(batch_size=10)
    exact, low = (
        TorchPredictor(Tied(), SPEC, url="m", device=CPU, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    truth = list(chain(*scan(refs, predictor=exact)))
    pace = Pace()
    found = list(chain(*scan(refs, predictor=low, pace=pace, settings=settings)))
    raw = TorchPredictor(Tied(), SPEC, url="m", device=CPU, precision="bfloat16")
    raw.rounding = 0.0
    unchecked = list(chain(*scan(refs, predictor=raw)))
    differ = sum(
        a.predicted != b.predicted for a, b in zip(truth, unchecked, strict=True)
    )
    assert differ > 0
    assert [o.predicted for o in found] == [o.predicted for o in truth]
    assert pace.to_dict()["changed"] == differ
    assert differ <= pace.to_dict()["rechecked"] <= 60
