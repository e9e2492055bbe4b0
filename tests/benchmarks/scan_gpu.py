"""Scan photo-like JPEGs on a GPU and compare with what it and the decoders can do.

    python -m tests.benchmarks.scan_gpu --check

A resnet50 in bfloat16 and in float16 on 20,000 JPEGs of about 500x375: the bare forward on
tensors in the GPU's memory; decoding alone, on the CPUs and by nvJPEG; and `scan_samples`
with each decoder and with auto. With --check: every auto scan >= 0.9 of the smaller of the
forward's bound and the better decoder's. Without a GPU it says so and ends, with status 2
when --check is given.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import torch

from mining.checkpoints import load_model, read_spec
from mining.feeder import fitting_batch
from mining.gpu_decoding import decode_mixed
from mining.lanes import Lane
from mining.pace import Pace, bottleneck
from mining.predictors import Predictor
from mining.reading import FileRead
from mining.scan import scan_samples
from mining.threads import plan_threads
from mining.types import SampleRef, ScanSettings
from tests.benchmarks.photos import CLASSES, PHOTOGRAPH, make_photos, save_network

TARGET = 0.9
_CHUNK = 128


def timed(work: Callable[[], int]) -> float:
    """Return images per second; the GPU's queue is empty at both ends."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    done = work()
    torch.cuda.synchronize()
    return done / (time.perf_counter() - started)


def forward(predictor: Predictor, images: int) -> int:
    """Run the model on one batch in the GPU's memory, again and again."""
    size = fitting_batch(predictor, PHOTOGRAPH)
    shape = (size, 224, 224, 3)
    rows = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda")
    waits = [predictor.start(rows.permute(0, 3, 1, 2)) for _ in range(images // size)]
    for wait in waits:
        wait()
    return images // size * size


def decode(lane: Lane, samples: list[SampleRef], *, on_gpu: bool) -> int:
    """Read, decode and resize every file in threads."""
    device = torch.device("cuda" if on_gpu else "cpu")

    def work(start: int) -> int:
        part = samples[start : start + _CHUNK]
        files = [FileRead(ref, data=Path(ref.url).read_bytes()) for ref in part]
        rows = lane.empty(len(part)).to(device)
        if on_gpu:
            found = decode_mixed(files, rows, lane)
        else:
            found = lane.decode(files, rows.numpy())
        assert not any(one.error for one in found), found
        return len(part)

    with ThreadPoolExecutor(plan_threads().lanes) as pool:
        return sum(pool.map(work, range(0, len(samples), _CHUNK)))


def scan(predictor: Predictor, samples: list[SampleRef], decoder: str) -> Pace:
    """Scan all samples; return what was measured."""
    pace = Pace()
    settings = ScanSettings(decode=decoder)
    for _ in scan_samples(
        predictor, samples, settings=settings, preprocessing=PHOTOGRAPH, pace=pace
    ):
        pass
    return pace


def measure(precision: str, checkpoint: Path, samples: list[SampleRef]) -> bool:
    """Print the table of a precision; return whether auto meets its target."""
    spec = read_spec(str(checkpoint))
    predictor = load_model(str(checkpoint), spec, device="cuda", precision=precision)
    settings = ScanSettings()
    lane = Lane(
        predictor, settings=settings, preprocessing=PHOTOGRAPH, keep=None, pace=Pace()
    )
    for warm in (
        lambda: forward(predictor, 1024),
        lambda: decode(lane, samples[:256], on_gpu=True),
        lambda: decode(lane, samples[:256], on_gpu=False),
    ):
        warm()
    bare = timed(lambda: forward(predictor, len(samples)))
    by_cpu = timed(lambda: decode(lane, samples, on_gpu=False))
    by_gpu = timed(lambda: decode(lane, samples, on_gpu=True))
    bound = min(bare, max(by_cpu, by_gpu))
    print(f"\nresnet50, {precision}, {torch.cuda.get_device_name()}:")
    print(f"  bare forward            {bare:9,.0f} images/s")
    print(f"  decode, {plan_threads().lanes:3} CPU threads {by_cpu:9,.0f} images/s")
    print(f"  decode, nvJPEG          {by_gpu:9,.0f} images/s")
    share = 0.0
    for decoder in ("cpu", "gpu", "auto"):
        pace = scan(predictor, samples, decoder).to_dict()
        speed = float(str(pace["images"])) / float(str(pace["seconds"]))
        share = speed / bound
        print(
            f"  scan, decode {decoder:4} ({pace['decode']}) {speed:9,.0f} images/s,"
            f" {share:.2f} of the bound, {pace['rechecked']} computed again,"
            f" {pace['changed']} changed, GPU memory {pace['gpu_memory_mb']} MiB"
        )
        print(f"    {bottleneck(pace)}", flush=True)
    print(f"  auto / bound: {share:.2f} (target {TARGET})")
    return share >= TARGET


def main() -> int:
    """Run the benchmark; return 1 when --check is given and the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return 2 if options.check else 0
    with tempfile.TemporaryDirectory(prefix="hardmine-benchmark-") as name:
        folder = Path(name)
        make_photos(folder / "photos", options.images)
        checkpoint = save_network(
            folder / "net.safetensors", "torchvision:resnet50", folder / "photos"
        )
        paths = sorted((folder / "photos").rglob("*.jpg"), key=lambda path: path.name)
        samples = [
            SampleRef(n, path.name, str(path), CLASSES.index(path.parent.name))
            for n, path in enumerate(islice(paths, options.images))
        ]
        passed = [
            measure(precision, checkpoint, samples)
            for precision in ("bfloat16", "float16")
        ]
    return int(options.check and not all(passed))


if __name__ == "__main__":
    sys.exit(main())
