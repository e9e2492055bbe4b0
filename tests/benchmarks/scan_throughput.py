"""Scan photo-like JPEGs and compare with the loop that people write.

    python -m tests.benchmarks.scan_throughput --check

For resnet18 and mobilenet_v3_small, alternating, medians of five: the bare forward on
tensors in memory, decoding and resizing alone, a plain float32 DataLoader loop, and whole
scans (claims, thumbnails, artefact, findings, counts, ledger) in float32 and in auto. A
shared machine is faster one minute and slower the next, so a ratio is the median of those
of each round. With --check: for resnet18 auto >= 2.0 times and float32 >= 1.1 times the
plain loop; for both auto >= 0.90 of the bound, which on a CPU is 1 / (decode + forward):
both want all cores.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.scratch import ROOT, wait_for_stop

MODELS = ("resnet18", "mobilenet_v3_small")
BATCH = 16


def timed(work: Callable[[], int]) -> float:
    """Return the images per second of some work that returns how many it did."""
    started = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - started)


class Measured:
    """The kinds of work on one set of photographs and one network; needs Django set up."""

    def __init__(self, folder: Path, architecture: str) -> None:
        import torch

        from mining.checkpoints import load_model, load_network, read_spec
        from mining.threads import plan_threads
        from tests.benchmarks.photos import PHOTOGRAPH, save_network
        from tests.scanning import add_version

        self.torch = torch
        self.folder = folder / "photos"
        self.name = architecture
        path = save_network(
            folder / f"{architecture}.safetensors",
            f"torchvision:{architecture}",
            self.folder,
        )
        self.paths = sorted(self.folder.rglob("*.jpg"))
        self.preprocessing = PHOTOGRAPH
        self.lanes = plan_threads().lanes
        self.pace: list[dict[str, object]] = []
        self.found: dict[str, set[tuple[object, ...]]] = {}  # findings by precision
        self.last: Any = None  # scan
        self.predictor = load_model(str(path), read_spec(str(path)), device="auto")
        self.plain = load_network(str(path), read_spec(str(path))).eval()
        self.dataset = registered(self.folder)
        self.version = add_version(self.dataset, path, name=architecture)
        # As many as there are images: the same batch again and again would stay in a cache.
        height, width = PHOTOGRAPH.crop
        shape = (len(self.paths) // BATCH, BATCH, height, width, 3)
        rows = torch.randint(0, 256, shape, dtype=torch.uint8)
        self.batches = list(rows.permute(0, 1, 4, 2, 3))

    def side_by_side(self, work: Callable[[Any], Any], items: list[Any]) -> None:
        """Do the work in one thread per core, each computing alone."""
        self.torch.set_num_threads(1)
        with ThreadPoolExecutor(self.lanes) as pool:
            list(pool.map(work, items))
        self.torch.set_num_threads(self.lanes)

    def forward(self) -> int:
        """Run the model of the auto scan on batches in memory."""
        self.side_by_side(self.predictor, self.batches)
        return len(self.batches) * BATCH

    def decode(self) -> int:
        """Decode and resize every file, as the scan does."""
        from mining.loading import load_pixels

        def load(path: Path) -> None:
            load_pixels(path.read_bytes(), self.preprocessing)

        self.side_by_side(load, self.paths)
        return len(self.paths)

    def loop(self) -> int:
        """Classify with torchvision's transforms and a DataLoader, as people write it."""
        from torch.utils.data import DataLoader
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        self.torch.set_num_threads(self.lanes)
        steps = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(self.preprocessing.mean, self.preprocessing.std),
            ]
        )
        images = ImageFolder(str(self.folder / "test"), steps)
        loader = DataLoader(images, batch_size=32, num_workers=2)
        model = self.plain
        found = []
        with self.torch.inference_mode():
            for x, _ in loader:
                found += model(x).softmax(1).max(1).indices.tolist()
        return len(found)

    def scan(self, precision: str) -> int:
        """Scan through the database, with everything that a worker does."""
        from tests.scanning import scan

        self.last = scan(self.version, settings={"precision": precision})
        return int(self.last.samples)

    def look_back(self) -> None:
        """Keep what the last scan found, untimed, and take its thumbnails away."""
        from django.conf import settings

        from reviewapp.models import Shard, Sighting

        done = self.last
        if done is None:
            return
        self.last = None
        assert done.state == "done", done.message
        paces = Shard.objects.filter(scan=done).values_list("pace", flat=True)
        self.pace = list(paces)
        seen = Sighting.objects.filter(scan=done)
        self.found[done.settings["precision"]] = set(
            seen.values_list(
                "finding__sample", "finding__predicted_label", "finding__kind"
            )
        )
        shutil.rmtree(Path(settings.MEDIA_ROOT) / "thumbnails", ignore_errors=True)


def registered(folder: Path) -> Any:
    """Return the data set of the photographs, registered once."""
    from reviewapp.models import Dataset, User
    from tests.scanning import register

    found = Dataset.objects.filter(root=str(folder)).first()
    staff, _ = User.objects.get_or_create(username="staff", is_staff=True)
    return found or register(folder, staff, name="Photos")


def inside(options: argparse.Namespace) -> int:
    """Measure, in the process that has the scratch database."""
    import django

    django.setup()
    from mining.pace import bottleneck, combine

    folder = Path(os.environ["HARDMINE_DATA_ROOTS"])
    passed = True
    for name in options.model or MODELS:
        measured = Measured(folder, name)
        kinds: dict[str, Callable[[], int]] = {
            "bare forward (auto)": measured.forward,
            "decode and resize": measured.decode,
            "plain loop (float32)": measured.loop,
            "scan, float32": lambda m=measured: m.scan("float32"),
            "scan, auto": lambda m=measured: m.scan("auto"),
        }
        measured.scan("auto")  # opens connections and loads libraries
        measured.look_back()
        speeds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(options.rounds):
            for kind, work in kinds.items():
                speeds[kind].append(timed(work))
                measured.look_back()
                print(
                    f"{name} {number + 1}/{options.rounds} {kind}:"
                    f" {speeds[kind][-1]:.1f} images/s",
                    flush=True,
                )
        pace = combine(measured.pace)
        passed &= report(name, speeds, cores=measured.lanes)
        print(
            f"  {pace['device']}, {pace['precision']}: {pace['rechecked']} of"
            f" {pace['images']} computed again in float32, {pace['changed']} changed"
        )
        differ = len(measured.found["float32"] ^ measured.found["auto"])
        passed &= differ == 0
        print(f"  findings that only one of float32 and auto has: {differ} (target 0)")
        print(f"  {bottleneck(pace)}")
        print(f"  peak memory of a scanning process: {peak(name)} MiB", flush=True)
    return int(options.check and not passed)


def report(name: str, speeds: dict[str, list[float]], *, cores: int) -> bool:
    """Print the medians and ratios of a network; return whether the targets are met."""
    forward, decode, plain, exact, auto = map(np.array, speeds.values())
    bound = 1 / (1 / decode + 1 / forward)  # of each round
    print(f"\n{name}, medians:")
    for kind, speed in {**speeds, "bound": bound}.items():
        middle = statistics.median(speed)
        print(f"  {kind:22} {middle:8.1f} images/s  {middle / cores:8.1f} per core")
    print(
        "  The bound is 1 / (decode + forward), since both run on the same"
        f" {cores} cores."
    )
    wanted = name == "resnet18"
    targets = [
        ("auto / plain loop", auto / plain, 2.0 if wanted else None),
        ("float32 / plain loop", exact / plain, 1.1 if wanted else None),
        ("auto / bound", auto / bound, 0.9),
    ]
    passed = True
    for what, ratios, target in targets:
        aim = f", target {target}" if target else ""
        ratio = statistics.median(ratios)
        passed &= target is None or ratio >= target
        print(f"  {what:22} {ratio:8.2f} ({min(ratios):.2f} to {max(ratios):.2f}{aim})")
    return passed


def peak(name: str) -> int:
    """Return the peak memory in MiB of a process that only scans."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.scan_throughput",
        "--alone",
        name,
    ]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1])["memory_mb"])


def alone(name: str) -> int:
    """Scan once in this process; print its peak memory."""
    import django

    django.setup()
    from mining.pace import peak_memory_mb
    from reviewapp.models import Dataset, ModelVersion
    from tests.scanning import scan

    dataset = Dataset.objects.get()
    version = ModelVersion.objects.get(
        registered_model__dataset=dataset, registered_model__name=name
    )
    scan(version)
    print(json.dumps({"memory_mb": round(peak_memory_mb())}))
    return 0


def scratch(folder: Path) -> dict[str, str]:
    """Return the environment of a process with servers and data in a folder of its own."""
    folder.chmod(0o755)
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "reviewapp.settings",
        "HARDMINE_VAR": str(folder / "var"),
        "HARDMINE_DATA_ROOTS": str(folder),
        "HARDMINE_MODEL_ROOTS": str(folder),
    }
    environment.pop("OMP_NUM_THREADS", None)
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
    return environment


def main() -> int:
    """Run the benchmark; return 1 when --check is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        return alone(options.alone)
    if options.inside:
        return inside(options)
    from tests.benchmarks.photos import make_photos

    with tempfile.TemporaryDirectory(prefix="hardmine-benchmark-") as name:
        folder = Path(name)
        environment = scratch(folder)
        make_photos(folder / "photos", options.images)
        command = [sys.executable, "-m", "tests.benchmarks.scan_throughput", "--inside"]
        done = subprocess.run(
            [*command, *sys.argv[1:]], cwd=ROOT, env=environment, check=False
        )
        wait_for_stop(folder)  # before the folder goes
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
