"""Finish scans of a million samples and show how long it takes.

    python -m tests.benchmarks.finishing --check

Four scans of 1,000,000 samples of 1,000 classes with about 100,000 errors each: the first;
one that finds other errors, so that most are fixed; one that finds the first ones again,
so that these are back; and one that finds what the scan before found. Their shards are
recorded as a worker does it, untimed; timed is `finish_scan`: the artefact, the counts,
the presence of the findings and the ledger. With --check: under 10 s, and under 3 s for
the last one.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from tests.benchmarks.inside import run_inside

if TYPE_CHECKING:
    from reviewapp.models import ModelVersion, Scan

CHANGED, UNCHANGED = 10.0, 3.0  # seconds
SCANS = (
    ("first scan", 0, CHANGED),
    ("other errors", 1, CHANGED),
    ("the first ones back", 0, CHANGED),
    ("nothing changed", 0, UNCHANGED),
)


def scan(version: ModelVersion, seed: int, shard_size: int) -> Scan:
    """Record every shard of a scan, and return it ready to finish."""
    from reviewapp.actions.findings import record_shard
    from reviewapp.actions.finishing import store_part
    from reviewapp.models import Scan
    from tests.benchmarks.worlds import outcomes, start_scan

    shards = start_scan(version, shard_size=shard_size)
    for shard in shards:
        found = outcomes(shard, error_share=0.1, seed=seed)
        store_part(shard=shard, outcomes=found)
        assert record_shard(shard=shard, outcomes=found)
    return Scan.objects.with_names().get(pk=shards[0].scan_id)


def finish(started: Scan) -> float:
    """Finish a scan, check what it says, and return the seconds it took."""
    from reviewapp.actions.finishing import finish_scan
    from reviewapp.models import Confusion, Finding

    clock = time.perf_counter()
    done = finish_scan(scan=started)
    seconds = time.perf_counter() - clock
    assert done.state == "done", done.message
    present = Finding.objects.misclassified().present().count()
    assert (
        present == done.errors == sum(line.present for line in Confusion.objects.all())
    )
    return seconds


def main() -> int:
    """Run the benchmark; return 1 when --check is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--shard-size", type=int, default=10_000)
    options = parser.parse_args()
    status = run_inside("tests.benchmarks.finishing")
    if status is not None:
        return status
    from reviewapp.models import Finding
    from tests.benchmarks.worlds import make_version

    name = "finishing"
    version = make_version(name, samples=options.samples, classes=options.classes)
    missed = False
    for title, seed, target in SCANS:
        started = scan(version, seed, options.shard_size)
        seconds = finish(started)
        missed |= seconds > target
        rows = Finding.objects.count_by_state().items()
        presence = ", ".join(f"{n:,} {presence}" for (_, presence), n in rows)
        print(
            f"{title:20} {seconds:6.2f} s (target {target:.0f} s): {presence}",
            flush=True,
        )
    return int(options.check and missed)


if __name__ == "__main__":
    sys.exit(main())
