"""Register photo-sized images and show the time and the memory it takes.

    python -m tests.benchmarks.registration --check

Makes 2,624 PNGs of 300x300 pixels, and ten times as many keys with small files, in a
scratch folder with servers of its own. Prints the time to read and hash the bytes alone
and the time to register, alternating, and the peak memory of a process that registers
2,624 and 26,240 images. With --check: register <= 10 s, and memory growth <= 5 %.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.scratch import ROOT, wait_for_stop

N = 2624

REGISTER = """
import django, json, resource, sys, time
django.setup()
from reviewapp.actions.datasets import register_dataset, run_registration
from reviewapp.models import User
staff, _ = User.objects.get_or_create(username="staff", is_staff=True)
started = time.monotonic()
registration = register_dataset(name=sys.argv[1], root=sys.argv[2], by=staff)
run_registration(registration=registration)
seconds = time.monotonic() - started
assert registration.state == "done", registration.message
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"images": registration.total, "seconds": seconds, "peak_kib": peak}))
"""

READ = """
import hashlib, pathlib, sys, time
started = time.monotonic()
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.png")):
    hashlib.sha256(path.read_bytes()).hexdigest()
print(time.monotonic() - started)
"""


def make_images(folder: Path, n: int, side: int) -> None:
    """Write n grey PNGs of noise over a gradient, four classes, one split."""
    rng = np.random.default_rng(0)
    base = np.linspace(0, 200, side)[None, :] + rng.integers(0, 50, (side, side))
    for i in range(n):
        path = folder / "test" / f"class {i % 4}" / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(base, i, axis=1).astype(np.uint8)).save(path)


def run(code: str, *arguments: str, environment: dict[str, str]) -> str:
    """Run a piece of Python in a process of its own and return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout


def main() -> int:
    """Run the benchmark; return 1 when --check is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hardmine-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "reviewapp.settings",
            "HARDMINE_VAR": str(folder / "var"),
            "HARDMINE_DATA_ROOTS": str(folder),
        }
        make_images(folder / "photos", N, 300)
        make_images(folder / "few", N, 8)
        make_images(folder / "many", 10 * N, 8)
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
        read, registered = [], []
        for i in range(options.runs):
            photos = str(folder / "photos")
            read.append(float(run(READ, photos, environment=environment)))
            out = run(REGISTER, f"photos {i}", photos, environment=environment)
            registered.append(json.loads(out)["seconds"])
        small = json.loads(
            run(REGISTER, "few", str(folder / "few"), environment=environment)
        )
        large = json.loads(
            run(REGISTER, "many", str(folder / "many"), environment=environment)
        )
        wait_for_stop(folder)  # before the folder goes
    seconds = statistics.median(registered)
    growth = large["peak_kib"] / small["peak_kib"] - 1
    print(f"read and hash {N} images alone: {statistics.median(read):.2f} s")
    print(f"register {N} images:            {seconds:.2f} s (target 10 s)")
    print(f"ratio:                          {seconds / statistics.median(read):.1f}")
    print(
        f"peak memory, {small['images']} and {large['images']} images: "
        f"{small['peak_kib'] / 1024:.0f} and {large['peak_kib'] / 1024:.0f} MiB "
        f"({growth:+.1%}, target 5 %)"
    )
    return int(options.check and (seconds > 10 or growth > 0.05))


if __name__ == "__main__":
    sys.exit(main())
