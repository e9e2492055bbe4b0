"""Scan 2,000 and 20,000 small JPEGs and compare the peak memory of the processes.

    python -m tests.benchmarks.scan_memory --check

A mobilenet_v3_small on 64x64 pixels, through the path of a worker: claimed shards,
thumbnails, artefact, findings, finish. With --check: at most 5 % more for the ten times.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import safetensors.torch

from mining.specs import write_spec
from mining.types import ModelSpec
from tests.benchmarks.photos import CLASSES, PHOTOGRAPH, fit_network, make_photos
from tests.benchmarks.scan_throughput import scratch
from tests.benchmarks.scratch import ROOT, wait_for_stop

TARGET = 0.05
SMALL = dataclasses.replace(PHOTOGRAPH, resize=64, crop=(64, 64))
ARCHITECTURE = "torchvision:mobilenet_v3_small"

SCAN = """
import django, json, sys, time
django.setup()
from pathlib import Path
from mining.pace import peak_memory_mb
from reviewapp.models import User
from tests.scanning import add_version, register, scan
folder, checkpoint = map(Path, sys.argv[1:])
staff, _ = User.objects.get_or_create(username="staff", is_staff=True)
version = add_version(register(folder, staff, name=folder.name), checkpoint)
started = time.monotonic()
done = scan(version)
seconds = time.monotonic() - started
assert done.state == "done", done.message
print(json.dumps({"images": done.samples, "shards": done.shards.count(),
                  "seconds": seconds, "peak_mb": peak_memory_mb()}))
"""


def main() -> int:
    """Run the benchmark; return 1 when --check is given and the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hardmine-benchmark-") as name:
        folder = Path(name)
        environment = scratch(folder)
        checkpoint = folder / "net.safetensors"
        make_photos(folder / "few", options.images // 10, size=(80, 60))
        make_photos(folder / "many", options.images, size=(80, 60))
        network = fit_network(ARCHITECTURE, folder / "few")
        safetensors.torch.save_file(network.state_dict(), checkpoint)
        spec = ModelSpec("safetensors", ARCHITECTURE, CLASSES, SMALL)
        write_spec(str(checkpoint), spec)
        found = []
        for kind in ("few", "many"):
            command = [sys.executable, "-c", SCAN, str(folder / kind), str(checkpoint)]
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(
                "{images:6} images in {shards:2} shards: {seconds:6.1f} s,"
                " peak {peak_mb:6.0f} MiB".format(**found[-1]),
                flush=True,
            )
        wait_for_stop(folder)  # before the folder goes
    growth = found[1]["peak_mb"] / found[0]["peak_mb"] - 1
    print(f"growth: {growth:+.1%} (target {TARGET:.0%})")
    return int(options.check and growth > TARGET)


if __name__ == "__main__":
    sys.exit(main())
