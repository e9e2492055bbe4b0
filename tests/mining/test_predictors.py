from __future__ import annotations

import pytest
import torch

from mining import predictors
from mining.exceptions import BadCheckpoint
from mining.predictors import (
    Normaliser,
    TorchPredictor,
    resolve_device,
    resolve_precision,
)
from tests.mining.models import small_cnn
from tests.mining.pictures import COLOUR, SPEC

CPU = torch.device("cpu")


def test_normalising_is_minus_mean_over_std():
    batch = (
        torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(-1, 3, 1, 1)
    )
    found = Normaliser(COLOUR, CPU)(batch)
    expected = [[-2.5, -1.6, -1.0], [2.5, 2.4, 0.7 / 0.3]]
    assert torch.allclose(found[..., 0, 0], torch.tensor(expected), atol=1e-6)
    assert batch.dtype == torch.uint8


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags: avx2 avx512_bf16", torch.bfloat16),
        ("flags: amx_bf16", torch.bfloat16),
        ("flags: avx2 avx512f", torch.float32),
    ],
)
def test_auto_takes_bfloat16_where_it_is_fast(tmp_path, monkeypatch, flags, expected):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(predictors, "_CPUINFO", tmp_path / "cpuinfo")
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("float32", CPU) == torch.float32
    assert resolve_precision("bfloat16", CPU) == torch.bfloat16


def test_a_gpu_that_is_not_there_is_said_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(BadCheckpoint, match="has none"):
        resolve_device("cuda")


def test_bfloat16_stays_near_float32_and_comes_out_as_float32():
    batch = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8)
    low, full = (
        TorchPredictor(small_cnn(), SPEC, url="m", device=CPU, precision=precision)(
            batch
        )
        for precision in ("bfloat16", "float32")
    )
    assert low.dtype == full.dtype == torch.float32
    assert not torch.equal(low, full)
    assert torch.allclose(low.softmax(1), full.softmax(1), atol=0.1)


def test_a_model_that_gives_no_tensor_is_refused():
    class Pair(torch.nn.Module):
        def forward(self, x):
            return x, x

    predictor = TorchPredictor(Pair(), SPEC, url="m.pt", device=CPU)
    with pytest.raises(BadCheckpoint, match=r"m\.pt gives a tuple"):
        predictor(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_the_cpu():
    batch = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    gpu, cpu = (
        TorchPredictor(
            small_cnn(), SPEC, url="m", device=torch.device(name), precision="float32"
        )(batch)
        for name in ("cuda", "cpu")
    )
    assert torch.allclose(gpu.softmax(1), cpu.softmax(1), atol=1e-2)
