from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
import torch

from mining.exceptions import BadCheckpoint
from mining.late import run_lanes
from mining.pace import Pace
from mining.scan import scan_samples
from mining.types import ScanSettings
from tests.mining.pictures import GREY
from tests.mining.scans import Stub, samples, scan

SETTINGS = ScanSettings(batch_size=2, workers=2)


class Close(Stub):
    """Says class 0 by a hair where the first pixel is below a level, and float32 class 1."""

    rounding = 2.0**-8
    precision = "bfloat16"
    level = 90

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __call__(self, batch):
        return self._logits(batch, [5.0, 4.99, 0.0])

    def exact(self, batch):
        self.sizes.append(len(batch))
        return self._logits(batch, [4.99, 5.0, 0.0])

    def _logits(self, batch, close):
        is_close = batch[:, 0, :1, 0] < self.level
        return torch.where(is_close, torch.tensor(close), torch.tensor([5.0, 0, 0]))


def predicted(found) -> list[int]:
    return [outcome.predicted for outcome in chain(*found)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_close_calls_of_many_batches_are_computed_together(tmp_path, workers):
    refs = samples(tmp_path, 80)
    truth = predicted(scan(refs, predictor=ExactClose()))
    net, pace = Close(), Pace()
    settings = ScanSettings(batch_size=2, workers=workers)
    found = scan(refs, predictor=net, settings=settings, pace=pace)
    assert [len(batch) for batch in found] == [2] * 40
    assert [o.id for o in chain(*found)] == [ref.id for ref in refs]
    assert predicted(found) == truth
    early = predicted(found[:4]).count(1)
    late = truth.count(1) - early
    assert late > 16
    # Sixteen at once, as far as they come within some batches.
    assert max(net.sizes) <= 16
    assert len(net.sizes) < early + late / 2
    assert pace.to_dict()["rechecked"] == pace.to_dict()["changed"] == early + late


class ExactClose(Close):
    rounding = 0.0

    def __call__(self, batch):
        return self.exact(batch)


def test_what_is_computed_together_is_the_same_in_every_run(tmp_path):
    refs = samples(tmp_path, 80)
    runs = []
    for workers in (1, 3, 3):
        net = Close()
        scan(refs, predictor=net, settings=ScanSettings(batch_size=2, workers=workers))
        runs.append(Counter(net.sizes))
    assert runs[0] == runs[1] == runs[2]


def test_a_file_waits_for_some_batches_only(tmp_path):
    class Rare(Close):
        calls = 0

        def __call__(self, batch):
            self.calls += 1
            return torch.tensor([[5.0, 4.99 if self.calls == 7 else 0.0, 0.0]])

        def exact(self, batch):
            return torch.tensor([[4.99, 5.0, 0.0]])

    net = Rare()
    settings = ScanSettings(batch_size=1, workers=1)
    batches = scan_samples(
        net, samples(tmp_path, 40), settings=settings, preprocessing=GREY
    )
    found = []
    for batch in batches:
        found += batch
        if len(found) == 7:
            break
    assert found[6].predicted == 1
    assert net.calls < 35
    batches.close()


def test_findings_are_kept_once_and_with_what_float32_says(tmp_path):
    refs = samples(tmp_path, 80)
    kept = []
    found = scan(
        refs,
        predictor=Close(),
        settings=ScanSettings(batch_size=2, workers=2, near_miss_below=0.0),
        keep=lambda outcome, _: kept.append((outcome.id, outcome.predicted)),
    )
    wanted = [(o.id, o.predicted) for o in chain(*found) if o.is_error]
    assert sorted(kept) == wanted


def test_an_error_of_float32_comes_out(tmp_path):
    class Refuses(Close):
        def exact(self, batch):
            if len(batch) > 2:
                raise BadCheckpoint("m cannot")
            return super().exact(batch)

    with pytest.raises(BadCheckpoint, match="m cannot"):
        scan(samples(tmp_path, 120), predictor=Refuses(), settings=SETTINGS)


def test_nothing_gives_nothing():
    assert list(run_lanes(iter([]), None, threads=1, ahead=2)) == []
