from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torchvision.models import VisionTransformer
from torchvision.transforms import v2

from mining import predictors
from mining.architectures import build
from mining.checkpoints import load_model
from mining.exceptions import BadCheckpoint
from mining.predictors import (
    Normaliser,
    TorchPredictor,
    resolve_device,
    resolve_precision,
)
from mining.specs import read_spec
from mining.types import ModelSpec, Preprocessing
from tests.mining.models import linear_onnx, small_cnn
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
    assert resolve_precision("float16", CPU) == torch.float16


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


NETWORKS = {
    "resnet18": lambda: build("torchvision:resnet18", 3),
    "mobilenet": lambda: build("torchvision:mobilenet_v3_small", 3),
    "lite0": lambda: build("efficientnet_lite0", 3),
    "vit": lambda: VisionTransformer(
        image_size=64,
        patch_size=16,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=64,
        num_classes=3,
    ),
}
PHOTO = Preprocessing(
    resize=64, crop=(64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
COLOUR_SPEC = ModelSpec("safetensors", "x", SPEC.classes, PHOTO)


def network(name: str) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = NETWORKS[name]()
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None  # the statistics are those of the next batch
        model.train()(torch.randn(32, 3, 64, 64))
        head = [part for part in model.modules() if isinstance(part, torch.nn.Linear)][
            -1
        ]
        torch.nn.init.normal_(head.weight, std=0.1)
    return model.eval()


@pytest.fixture(params=list(NETWORKS))
def logits_of(request):
    """Return a plain loop's logits of 12 images, and a maker of predictors."""
    pixels = torch.randint(
        0,
        256,
        (12, 64, 64, 3),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    ).permute(0, 3, 1, 2)
    steps = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize(PHOTO.mean, PHOTO.std)]
    )
    model = network(request.param)
    with torch.inference_mode():
        wanted = torch.cat([model(steps(image)[None]) for image in pixels.contiguous()])

    def make(precision: str) -> TorchPredictor:
        return TorchPredictor(
            network(request.param),
            COLOUR_SPEC,
            url="m",
            device=CPU,
            precision=precision,
        )

    return pixels, wanted, make


def test_float32_is_the_plain_loop(logits_of):
    pixels, wanted, make = logits_of
    found = make("float32")(pixels)
    assert wanted.std(0).min() > 0.1  # the images do differ
    assert torch.equal(found.argmax(1), wanted.argmax(1))
    assert (found.softmax(1) - wanted.softmax(1)).abs().max() < 1e-5


def test_exact_is_float32_beside_a_fast_copy(logits_of):
    pixels, wanted, make = logits_of
    predictor = make("bfloat16")
    assert predictor.rounding == 2**-8
    assert predictor.precision == "bfloat16"
    exact, low = predictor.exact(pixels), predictor(pixels)
    assert (exact.softmax(1) - wanted.softmax(1)).abs().max() < 1e-5
    assert not torch.equal(low, exact)
    spread = wanted.max() - wanted.min()
    assert (low - exact).abs().max() < 0.1 * spread


def test_a_network_that_cannot_be_converted_runs_under_autocast():
    class Casts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(64, 3)

        def forward(self, x):
            return self.head(x.flatten(1).float())

    predictor = TorchPredictor(Casts(), SPEC, url="m", device=CPU, precision="bfloat16")
    batch = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    low, exact = predictor(batch), predictor.exact(batch)
    assert not torch.equal(low, exact)
    assert torch.allclose(low, exact, atol=0.1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_batch_norms_are_folded_in_every_type(precision):
    network = small_cnn()
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    predictor = TorchPredictor(network, SPEC, url="m", device=CPU, precision=precision)
    for run in (predictor._run, predictor._exact):
        assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in run.modules())


def test_starting_gives_what_calling_gives():
    predictor = TorchPredictor(small_cnn(), SPEC, url="m", device=CPU)
    batch = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(predictor.start(batch)(), predictor(batch))


def test_a_compiled_model_is_asked_for(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    options = {"url": "m", "device": CPU, "precision": "float32"}
    TorchPredictor(small_cnn(), SPEC, **options)
    assert compiled == []
    TorchPredictor(small_cnn(), SPEC, compile_model=True, **options)
    assert len(compiled) == 1


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_threads_share_a_model(tmp_path, kind):
    linear_onnx(tmp_path / "m.onnx")
    if kind == "onnx":
        predictor = load_model(
            str(tmp_path / "m.onnx"), read_spec(str(tmp_path / "m.onnx")), device="cpu"
        )
    else:
        predictor = TorchPredictor(small_cnn(), SPEC, url="m", device=CPU)
    batches = torch.randint(0, 256, (40, 4, 1, 8, 8), dtype=torch.uint8)
    wanted = [predictor(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor, batches))
    assert all(map(torch.equal, found, wanted))


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
