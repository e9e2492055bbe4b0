"""Measure the ledger and the analyses at the size that they are made for.

    python -m tests.benchmarks.analysis --check

Takes a copy of the world of `world_of_findings`, whose ledger has 10,000 confusions in
200 scans, and adds a data set of 1,000 classes with two finished scans of 1,000,000
samples each. Computes the thresholds from an artefact and the comparison of the two, then
starts gunicorn with the settings of production and asks for every page over a connection
that stays open, taking turns with the yardstick: the cheapest view that knows who asks.
With --check: every target holds.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.world_of_findings import FOLDER, ROWS, ensure

if TYPE_CHECKING:
    from reviewapp.models import Scan

SECONDS = 2.0  # to compute the thresholds
WHO = "lead"


def compute(scan: Scan, rounds: int) -> bool:
    """Compute a scan's thresholds from its artefact, and say how long it took."""
    from reviewapp.analysing import thresholds_of

    took = []
    for _ in range(rounds):
        started = time.perf_counter()
        figures, counts = thresholds_of(scan)
        took.append(time.perf_counter() - started)
        assert (figures["samples"], figures["errors"]) == (scan.samples, scan.errors)
    median = statistics.median(took)
    print(
        f"thresholds of {scan.samples:,} outcomes: {median:.2f} s (target {SECONDS:.0f} s),"
        f" kept in {len(counts) / 1000:.0f} kB"
    )
    return median <= SECONDS


def run(options: argparse.Namespace, environment: dict[str, str]) -> bool:
    """Measure everything, and return whether all targets hold."""
    import django

    from tests.benchmarks.review_serving import SITE, serving

    os.environ.update(environment, DJANGO_SETTINGS_MODULE=SITE)
    django.setup()
    from tests.benchmarks.analysis_pages import add_scans, pages, write_facts
    from tests.benchmarks.review_pages import HEADING, measure
    from tests.benchmarks.review_serving import Client, cookies_of

    scans = add_scans(options.samples, options.classes, options.shard_size, who=WHO)
    good = compute(scans[-1], options.rounds)
    write_facts(*scans)
    with serving(environment, Path(environment["HARDMINE_VAR"])) as host:
        client = Client(host, cookies_of(WHO))
        print(HEADING)
        for figure, address in pages(*scans):
            if options.pages not in figure.name:
                continue
            measure(figure, lambda at=address: client.get(at), client, options.repeats)
            print(figure, flush=True)
            good &= figure.holds
    return good


def main() -> int:
    """Run the benchmark; return 1 when --check is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rows", type=int, default=ROWS, help="open errors")
    parser.add_argument("--data", type=Path, default=FOLDER, help="where it is kept")
    parser.add_argument("--samples", type=int, default=1_000_000, help="of a scan")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--shard-size", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5, help="of computing")
    parser.add_argument("--pages", default="", help="only pages named like this")
    parser.add_argument("--repeats", type=int, default=60, help="of each page")
    options = parser.parse_args()
    good = run(options, ensure(options.rows, options.data))
    return int(options.check and not good)


if __name__ == "__main__":
    sys.exit(main())
