"""Scan by one worker and by two, each with one thread on a core of its own.

    python -m tests.benchmarks.scale --check

Makes photo-like JPEGs and a resnet18 in a scratch folder with servers of its own, and
runs two real worker processes, which stay. In turn, one of them takes shards, or both.
Prints the seconds from the first claim to the end of the scan, medians, and the ratio.
With --check: two are at least 1.7 times as fast as one.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.benchmarks.scratch import ROOT, scratch

TARGET = 1.7
NAMES = ("one@bench", "two@bench")
QUEUE = "scan"


def cores() -> list[int]:
    """Return the first two CPUs that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < len(NAMES):
        sys.exit("This needs two CPU cores.")
    return usable[: len(NAMES)]


@contextmanager
def workers() -> Iterator[None]:
    """Run both workers, each on its own core, until the block ends."""
    processes = []
    for name, core in zip(NAMES, cores(), strict=True):
        command = [sys.executable, "-m", "celery", "-A", "reviewapp", "--quiet"]
        options = ["worker", "-Q", QUEUE, "--pool", "solo", "--concurrency", "1"]
        options += ["--without-gossip", "--without-mingle"]
        processes.append(
            subprocess.Popen(
                [*command, *options, "--hostname", name, "--loglevel", "WARNING"],
                cwd=ROOT,
                env={**os.environ, "PYTHONWARNINGS": "ignore", "LOG_LEVEL": "WARNING"},
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),
            )
        )
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def use(names: Sequence[str]) -> None:
    """Let only these workers take shards."""
    from reviewapp.celery import app

    for name in NAMES:
        order = (
            app.control.add_consumer if name in names else app.control.cancel_consumer
        )
        deadline = time.monotonic() + 60
        while not order(QUEUE, destination=[name], reply=True, timeout=2):
            if time.monotonic() > deadline:
                sys.exit(f"The worker {name} does not answer.")
    time.sleep(2)  # what a worker had asked the broker for before, it would still get


def prepare(folder: Path, images: int) -> int:
    """Make the photographs and the model, register both; return the version's id."""
    from reviewapp.actions.datasets import register_dataset, run_registration
    from reviewapp.actions.registry import register_version
    from reviewapp.models import User
    from tests.benchmarks.photos import make_photos, save_network

    make_photos(folder / "photos", images)
    checkpoint = save_network(
        folder / "net.safetensors", "torchvision:resnet18", folder / "photos"
    )
    staff = User.objects.create(username="staff", is_staff=True)
    registration = register_dataset(
        name="photos", root=str(folder / "photos"), by=staff
    )
    run_registration(registration=registration)
    version = register_version(
        dataset=registration.dataset, name="net", checkpoint=str(checkpoint), by=staff
    )
    return version.pk


def scan(version_id: int, shard_size: int) -> float:
    """Run a scan; return its seconds from the first claim to the end."""
    from django.db import transaction

    from reviewapp.actions.finishing import finish_scan
    from reviewapp.actions.scans import start_scan
    from reviewapp.models import ModelVersion, Scan
    from reviewapp.tasks import enqueue_scan

    version = ModelVersion.objects.get(pk=version_id)
    with transaction.atomic():
        started = start_scan(
            dataset=version.registered_model.dataset,
            version=version,
            trigger=Scan.Trigger.COMMAND,
            by=None,
            settings={"shard_size": shard_size, "workers": 1, "precision": "float32"},
        )
        enqueue_scan(started)
    while started.shards.unfinished().exists():
        time.sleep(0.05)
    finish_scan(scan=started)
    started.refresh_from_db()
    if started.state != Scan.State.DONE:
        sys.exit(f"The scan is {started.state}: {started.message}")
    first = min(started.shards.values_list("started_at", flat=True))
    return (started.finished_at - first).total_seconds()


def measure(options: argparse.Namespace) -> float:
    """Print each round and the medians; return how many times as fast two are."""
    version = prepare(options.inside, options.images)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with workers():
        for name in NAMES:  # loads the model and warms the caches
            use([name])
            scan(version, options.shard)
        for turn in range(options.rounds):
            for n in (1, 2) if turn % 2 else (2, 1):
                use(NAMES[:n])
                took = scan(version, options.shard)
                seconds[n].append(took)
                rate = options.images / took
                print(f"{n} worker(s): {took:6.2f} s, {rate:6.1f} images/s", flush=True)
    one, two = (statistics.median(seconds[n]) for n in (1, 2))
    print(
        f"median of {options.rounds}: {one:.2f} s by one worker, {two:.2f} s by two: "
        f"{one / two:.2f} times as fast (target {TARGET})"
    )
    return one / two


def main() -> int:
    """Run the benchmark; return 1 when --check is given and the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--shard", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is None:
        cores()
        with scratch() as (folder, environment):
            module = [sys.executable, "-m", "tests.benchmarks.scale"]
            command = [*module, *sys.argv[1:], "--inside", str(folder)]
            return subprocess.run(
                command, cwd=ROOT, env=environment, check=False
            ).returncode
    import django

    django.setup()
    return int(measure(options) < TARGET and options.check)


if __name__ == "__main__":
    sys.exit(main())
