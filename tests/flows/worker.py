"""A real Celery worker process on the test's own database and broker."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from reviewapp.celery import app
from reviewapp.management.processes import worker_command


def database_url() -> str:
    """Return the URL of the database that this test runs on."""
    return url_of(connection.settings_dict["NAME"])


def url_of(name: str) -> str:
    """Return the URL of a database on the tests' server."""
    parts = connection.settings_dict
    host = quote(parts["HOST"] or parts["OPTIONS"]["host"], safe="")
    return f"postgresql://{quote(parts['USER'])}@/{name}?host={host}"


@contextmanager
def worker(**environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker until the block ends.

    Args:
        **environment: What differs from the tests' environment.
    """
    app.control.purge()
    process = subprocess.Popen(
        worker_command("scan", "default", pool="solo"),
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(),
            "OMP_NUM_THREADS": "1",
            **environment,
        },
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(
    condition: Callable[[], bool], *, seconds: float = 90, every: float = 0.02
) -> None:
    """Wait until the condition holds, looking so often, or fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the worker did not get there in time"
        time.sleep(every)
