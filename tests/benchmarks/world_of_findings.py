"""A data set with a million open findings, made once and kept for every benchmark.

    python -m tests.benchmarks.world_of_findings --rows 1000000

The kept database is never used itself: each call of `ensure` gives a fresh copy of it, so
a benchmark may give verdicts as it likes and the next one still finds the same. It is
made anew when this code or a migration that it was made with has changed; migrations
that came later are applied to it.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from reviewapp import services
from tests.benchmarks.scratch import ROOT

FOLDER = ROOT / "var/benchmarks/review"
ROWS = 1_000_000
SLUG = "shelf"  # of the data set
KEPT, COPY = "kept", "hardmine"
MADE_BY = ("rows_of_findings.py", "rows_of_team.py")


def ensure(rows: int = ROWS, folder: Path = FOLDER) -> dict[str, str]:
    """Return the environment of processes that use a fresh copy of the database.

    The servers run while the calling process lives. The thumbnails are under the
    `HARDMINE_VAR` of the environment.

    Args:
        rows: Open errors; the rest of the world grows with them.
        folder: Where it is kept, some 4 kB for each row.
    """
    var = folder / str(rows)
    kept = services.ensure(var, database=KEPT).database_url
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "reviewapp.settings",
        "HARDMINE_VAR": str(var),
        "OMP_NUM_THREADS": "1",
    }
    _make(rows, var, {**environment, "DATABASE_URL": kept})
    with psycopg.connect(kept.replace(f"/{KEPT}?", "/postgres?"), autocommit=True) as c:
        c.execute(f"DROP DATABASE IF EXISTS {COPY} WITH (FORCE)")
        c.execute(f"CREATE DATABASE {COPY} TEMPLATE {KEPT} STRATEGY FILE_COPY")
    copy = services.ensure(var, database=COPY).database_url
    return {**environment, "DATABASE_URL": copy}


def _make(rows: int, var: Path, environment: dict[str, str]) -> None:
    """Make the kept database, or bring it up to date."""
    marker = var / "made.json"
    made: dict[str, str] = json.loads(marker.read_text()) if marker.exists() else {}
    now = _sources()
    if made == now:
        return
    if made and all(now.get(name) == digest for name, digest in made.items()):
        step = ["--migrate"]
    else:
        marker.unlink(missing_ok=True)
        step = ["--fill", str(rows)]
    command = [sys.executable, "-m", "tests.benchmarks.world_of_findings", *step]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    marker.write_text(json.dumps(now, indent=1))


def _sources() -> dict[str, str]:
    """Return what the database depends on -> its digest."""
    folder = Path(__file__).parent
    paths = [folder / name for name in MADE_BY]
    paths += sorted((ROOT / "reviewapp/migrations").glob("0*.py"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _migrate() -> None:
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")


def _fill(rows: int) -> None:
    """Empty the database and fill it."""
    from django.db import connection

    from tests.benchmarks import rows_of_team as team
    from tests.benchmarks.rows_of_findings import World

    started = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    _migrate()
    world = World.make(rows, SLUG)
    steps = [
        team.people_and_scans,
        World.thumbnails,
        World.samples,
        World.findings,
        World.standings,
        World.sightings,
        team.history,
        team.reviews,
        team.desk,
        World.sequences,
    ]
    for step in steps:
        step(world)
        print(f"  {time.monotonic() - started:6.1f} s  {step.__name__}", flush=True)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (FREEZE, ANALYZE)")
    print(f"  {time.monotonic() - started:6.1f} s  in all", flush=True)


def main() -> None:
    """Make the world that is asked for, or do a step of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--data", type=Path, default=FOLDER)
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--migrate", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.fill or options.migrate):
        print(ensure(options.rows, options.data)["DATABASE_URL"])
        return
    import django

    django.setup()
    if options.fill:
        _fill(options.fill)
    else:
        _migrate()


if __name__ == "__main__":
    main()
