"""Store the findings of a scan and show how fast it goes.

    python -m tests.benchmarks.ingest --check

Every sample is an error, so each is a finding and a sighting. Alternating, shard by shard, on
the same tables: `record_shard` as a worker calls it; `bulk_create(batch_size=1000,
update_conflicts=True)` of the same findings and sightings; and a bare COPY of the very
rows that `record_shard` wrote into copies of the tables with the same indexes. Then a
second scan that sees the same again. With --check: the first scan at least 8 times as
fast as `bulk_create`; the ratio to the bare COPY is printed (aim: 0.5).
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.benchmarks.inside import run_inside

if TYPE_CHECKING:
    from mining.types import Outcome
    from reviewapp.models import ModelVersion, Shard

TARGET = 8.0
AIM = 0.5
TABLES = ("reviewapp_finding", "reviewapp_sighting")
FIRST = {TABLES[0]: "id", TABLES[1]: "finding_id"}  # what their rows come in order of


class Stopwatch:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def time(self, name: str, work: Any, *arguments: Any) -> None:
        """Add the time that `work(*arguments)` takes."""
        started = time.perf_counter()
        work(*arguments)
        self.seconds[name] += time.perf_counter() - started


def record(shard: Shard, outcomes: Sequence[Outcome]) -> None:
    """Store a shard as a worker does."""
    from reviewapp.actions.findings import record_shard

    assert record_shard(shard=shard, outcomes=outcomes)


def bulk_create(shard: Shard, outcomes: Sequence[Outcome]) -> None:
    """Store a shard's findings and sightings as people write it."""
    from django.db import transaction

    from reviewapp.models import Finding, Sighting

    scan = shard.scan
    labels = scan.classes
    with transaction.atomic():
        findings = Finding.objects.bulk_create(
            [
                Finding(
                    dataset_id=scan.dataset_id,
                    registered_model_id=scan.model_version.registered_model_id,
                    sample_id=o.id,
                    true_label_id=labels[o.true],
                    predicted_label_id=labels[o.predicted],
                    kind=Finding.Kind.MISCLASSIFIED,
                    priority=1 - o.p_true,
                    confidence=o.confidence,
                    digest=o.digest,
                )
                for o in outcomes
            ],
            batch_size=1000,
            update_conflicts=True,
            unique_fields=[
                "sample",
                "registered_model",
                "true_label",
                "predicted_label",
            ],
            update_fields=["priority", "confidence", "digest"],
        )
        Sighting.objects.bulk_create(
            [
                Sighting(
                    finding=finding,
                    scan=scan,
                    confidence=o.confidence,
                    p_true=o.p_true,
                    margin=o.margin,
                    loss=o.loss,
                    top_labels=[labels[i] for i in o.top_classes],
                    top_probs=list(o.top_probs),
                )
                for finding, o in zip(findings, outcomes, strict=True)
            ],
            batch_size=1000,
            update_conflicts=True,
            unique_fields=["scan", "finding"],
            update_fields=["confidence", "p_true", "margin", "loss"],
        )


def rows_of(shard: Shard, table: str) -> tuple[list[str], list[str], list[Any]]:
    """Return the columns, types and rows that the shard's scan left in a table."""
    from django.db import connection

    where = {
        TABLES[0]: "id IN (SELECT finding_id FROM reviewapp_sighting g WHERE scan_id ="
        " %s) AND sample_id BETWEEN %s AND %s",
        TABLES[1]: "scan_id = %s AND finding_id IN (SELECT id FROM reviewapp_finding"
        " WHERE sample_id BETWEEN %s AND %s)",
    }[table]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname, atttypid::regtype::text FROM pg_attribute WHERE attrelid"
            " = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            [table],
        )
        names, types = map(list, zip(*cursor.fetchall(), strict=True))
        cursor.execute(
            f"SELECT {', '.join(names)} FROM {table} WHERE {where} ORDER BY {FIRST[table]}",
            [shard.scan_id, shard.first_sample, shard.last_sample],
        )
        return names, types, cursor.fetchall()


def copy_bare(rows: dict[str, tuple[list[str], list[str], list[Any]]]) -> None:
    """COPY rows into the copies of the tables, in one transaction."""
    from django.db import transaction

    from reviewapp.copying import copy_rows

    with transaction.atomic():
        for table, (names, types, values) in rows.items():
            copy_rows(f"bare_{table}", names, types, values)


def run(versions: dict[str, ModelVersion], shard_size: int) -> dict[str, float]:
    """Scan both data sets once, alternating, and return the seconds by method."""
    from tests.benchmarks.worlds import outcomes, start_scan

    watch = Stopwatch()
    shards = {
        name: start_scan(version, shard_size=shard_size)
        for name, version in versions.items()
    }
    for ours, theirs in zip(shards["record"], shards["bulk"], strict=True):
        watch.time("record", record, ours, outcomes(ours, error_share=1))
        watch.time("bulk", bulk_create, theirs, outcomes(theirs, error_share=1))
        rows = {table: rows_of(ours, table) for table in TABLES}
        watch.time("copy", copy_bare, rows)
    for version in versions.values():
        version.scans.update(state="cancelled")
    return watch.seconds


def show(title: str, seconds: dict[str, float], rows: int) -> float:
    """Print the rates and return how many times as fast as `bulk_create`."""
    faster = seconds["bulk"] / seconds["record"]
    share = seconds["copy"] / seconds["record"]
    print(f"\n{title}: {rows:,} findings and their sightings")
    for name, label in (
        ("record", "record_shard"),
        ("bulk", "bulk_create(update_conflicts=True)"),
        ("copy", "bare COPY, same indexes"),
    ):
        print(f"  {label:36} {rows / seconds[name]:9,.0f} /s {seconds[name]:8.1f} s")
    print(f"  {faster:.1f} times bulk_create, {share:.2f} of a bare COPY", flush=True)
    return faster


def make_copies() -> None:
    """Make empty copies of the tables, with the same indexes and checks."""
    from django.db import connection

    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DROP TABLE IF EXISTS bare_{table}")
            cursor.execute(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL)")


def main() -> int:
    """Run the benchmark; return 1 when --check is given and the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--shard-size", type=int, default=10_000)
    options = parser.parse_args()
    status = run_inside("tests.benchmarks.ingest")
    if status is not None:
        return status
    from tests.benchmarks.worlds import make_version

    versions = {
        name: make_version(name, samples=options.rows, classes=100)
        for name in ("record", "bulk")
    }
    make_copies()
    first = run(versions, options.shard_size)
    faster = show("First scan", first, options.rows)
    make_copies()  # ids of the first scan would be there already
    second = run(versions, options.shard_size)
    show("Second scan, the same again", second, options.rows)
    print(f"\ntarget: first scan at least {TARGET:.0f} times bulk_create: {faster:.1f}")
    print(f"aim: {AIM} of a bare COPY: {first['copy'] / first['record']:.2f}")
    return int(options.check and faster < TARGET)


if __name__ == "__main__":
    sys.exit(main())
