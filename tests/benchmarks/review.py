"""Measure the review desk at a million open findings, over HTTP and in Chromium.

    python -m tests.benchmarks.review --check

Takes a copy of the world of `world_of_findings` (10,000 confusions, 200 scans, 50 reviewers
with 300,000 verdicts behind them), starts gunicorn with the settings of production, and
asks over connections that stay open, with real sessions, taking turns with the
yardstick: the cheapest view that knows who asks (`review_site`). Then ten reviewers at
once, counted from the database against what they sent; then 200 verdicts by keyboard in
Chromium. With --check: every target holds.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.benchmarks.world_of_findings import FOLDER, ROWS, SLUG, ensure

PARTS = ("http", "crowd", "browser")
PEER = (
    "# Label Studio 1.23 on such a machine at 100,000 tasks (SQLite / PostgreSQL): next\n"
    "# 100 / 132 ms, submit 184 / 160 ms, a filtered and ordered list 488 / 324 ms,\n"
    "# 5 / 12 submits/s with 10 clients."
)


def http(host: str, repeats: int, only: str) -> bool:
    """Measure one request after another."""
    from reviewapp.models import Confusion
    from tests.benchmarks.review_pages import (
        HEADING,
        grid_ready,
        measure,
        pages,
        submits,
    )
    from tests.benchmarks.review_serving import Client, Reviewer, cookies_of

    line = Confusion.objects.most_frequent_first()[0]
    pair = f"true_label={line.true_label_id}&predicted_label={line.predicted_label_id}"
    print(HEADING)
    good = True
    if only in "submit":
        for number, queue in enumerate(("", "kind=near_miss", pair)):
            client = Client(host, cookies_of(f"reviewer{number:02d}"))
            figure = submits(Reviewer(client, SLUG), queue, repeats * 5)
            print(figure, flush=True)
            good &= figure.holds
    client = Client(host, cookies_of("reviewer10"))
    grid_ready(client, pair)
    for figure, address in pages():
        if only not in figure.name:
            continue
        measure(figure, lambda at=address: client.get(at), client, repeats)
        print(figure, flush=True)
        good &= figure.holds
    return good


def run(options: argparse.Namespace, environment: dict[str, str]) -> bool:
    """Run the parts that are asked for, and return whether all targets hold."""
    import django

    from tests.benchmarks.review_serving import SITE, serving

    os.environ.update(environment, DJANGO_SETTINGS_MODULE=SITE)
    django.setup()
    good = True
    with serving(environment, Path(environment["HARDMINE_VAR"])) as host:
        if "http" in options.only:
            good &= http(host, options.repeats, options.pages)
        if "crowd" in options.only:
            from tests.benchmarks.crowd import crowd

            good &= crowd(host, people=options.people, seconds=options.seconds)
        if "browser" in options.only:
            from tests.benchmarks.review_browser import browse

            good &= browse(host, verdicts=options.verdicts)
    print(PEER)
    return good


def main() -> int:
    """Run the benchmark; return 1 when --check is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rows", type=int, default=ROWS, help="open errors")
    parser.add_argument("--data", type=Path, default=FOLDER, help="where it is kept")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--pages", default="", help="only pages named like this")
    parser.add_argument("--repeats", type=int, default=60, help="of each page")
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60, help="of the crowd")
    parser.add_argument("--verdicts", type=int, default=200, help="by keyboard")
    options = parser.parse_args()
    good = run(options, ensure(options.rows, options.data))
    return int(options.check and not good)


if __name__ == "__main__":
    sys.exit(main())
