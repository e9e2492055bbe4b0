"""Two scans of a million samples, what is computed of them, and the pages that show it."""

# ruff: noqa: T201
from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tests.benchmarks.review_pages import Figure
from tests.benchmarks.world_of_findings import SLUG

if TYPE_CHECKING:
    from reviewapp.models import Scan

OWNER = "reviewer10"  # of some confusions
WIDE = "wide"  # the data set of many classes
PAGE, COMPARISON = 150.0, 500.0  # ms, 95 %


def add_scans(
    samples: int, classes: int, shard_size: int, *, who: str
) -> tuple[Scan, Scan]:
    """Add a data set and two finished scans with other errors, as workers leave them."""
    from reviewapp.actions.finishing import finish_scan
    from reviewapp.models import Membership, Role, User
    from tests.benchmarks.finishing import scan
    from tests.benchmarks.worlds import make_version

    started = time.monotonic()
    version = make_version(WIDE, samples=samples, classes=classes)
    Membership.objects.create(
        user=User.objects.get(username=who),
        dataset=version.registered_model.dataset,
        role=Role.LEAD,
    )
    done = []
    for seed in (0, 1):
        done.append(finish_scan(scan=scan(version, seed, shard_size)))
        assert done[-1].is_done, done[-1].message
        took = time.monotonic() - started
        print(f"  {took:6.1f} s  scan of {done[-1].samples:,}", flush=True)
    return done[0], done[1]


def write_facts(baseline: Scan, candidate: Scan) -> None:
    """Do what workers do once, when a scan has ended or two are compared."""
    from reviewapp.actions.analyses import run_analysis, start_analyses
    from reviewapp.actions.comparisons import run_comparison, start_comparison

    started = time.monotonic()
    for analysis in start_analyses(scan=candidate, by=None):
        done = run_analysis(analysis=analysis)
        assert done.state == "done", done.message
        print(f"  {time.monotonic() - started:6.1f} s  {done.what}", flush=True)
    comparison = start_comparison(baseline=baseline, candidate=candidate, by=None)
    comparison = run_comparison(comparison=comparison)
    assert comparison.state == "done", comparison.message
    print(f"  {time.monotonic() - started:6.1f} s  comparison", flush=True)


def pages(baseline: Scan, candidate: Scan) -> Iterator[tuple[Figure, str]]:
    """Yield every page with its target and address."""
    yield from _ledger()
    yield from _matrices(baseline, candidate)
    wide = f"/datasets/{WIDE}"
    compare = f"{wide}/compare/{baseline.pk}/{candidate.pk}/"
    yield Figure("comparison", None, COMPARISON), compare
    yield (
        Figure("comparison, both wrong", None, COMPARISON),
        f"{compare}?cell=both_wrong",
    )
    for name in ("thresholds", "slices"):
        yield Figure(name, None, PAGE), f"{wide}/scans/{candidate.pk}/{name}/"
    for band in ("threshold=0.9&width=0.05", "threshold=0.5&look=1&error=10"):
        address = f"{wide}/scans/{candidate.pk}/thresholds/?{band}"
        yield Figure(f"thresholds: {band}", None, PAGE), address


def _matrices(baseline: Scan, candidate: Scan) -> Iterator[tuple[Figure, str]]:
    page = f"/datasets/{WIDE}/scans/{candidate.pk}/matrix/"
    data = f"/api/datasets/{WIDE}/matrices/{candidate.pk}/"
    for chosen in (
        {},
        {"top": "all", "order": "name"},
        {"top": "all", "order": "size", "scale": "actual"},
        {"top": "all", "order": "errors", "scale": "predicted"},
        {"top": "all", "order": "cluster", "right": "show"},
        {"top": "all", "order": "cluster", "against": baseline.pk},
    ):
        query = urlencode(chosen)
        yield Figure(f"matrix: {query}", None, PAGE), f"{page}?{query}"
        yield Figure(f"its data: {query}", None, PAGE), f"{data}?{query}&cells=packed"


def _ledger() -> Iterator[tuple[Figure, str]]:
    from reviewapp.models import Confusion, Scan, User

    scan = Scan.objects.filter(dataset__slug=SLUG).newest_first()[0]
    ledger = Confusion.objects.for_dataset(scan.dataset)
    line = ledger.most_frequent_first()[0]
    owner = User.objects.get(username=OWNER)
    # So that the filters have something to find.
    Confusion.objects.filter(pk__in=ledger.values("pk").order_by("pk")[:500]).update(
        owner=owner, plan=Confusion.Plan.COLLECT, target=3
    )
    page = f"/datasets/{SLUG}/history/"
    model = scan.model_version.registered_model_id
    for query in (
        *("", "ordering=value", "ordering=value_accuracy"),
        *(f"owner={owner.pk}", "owner=none", f"owner={owner.pk}&ordering=value"),
        *("state=open", "state=regressed", "state=in_review&ordering=value"),
        *(f"registered_model={model}", "plan=collect"),
    ):
        yield Figure(f"ledger: {query}", None, PAGE), f"{page}?{query}"
    yield Figure("one line of the ledger", None, PAGE), f"{page}{line.pk}/"
    yield Figure("trends", None, PAGE), f"/datasets/{SLUG}/trends/"
