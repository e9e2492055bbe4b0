"""What the desk's browser tests share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests import factories
from tests.browser.desks import paint, paint_all

BUSY = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
"""


def _wait_until_quiet() -> None:
    """Wait for the requests of pages that were closed: the database is emptied next."""
    deadline = time.monotonic() + 10
    quiet = 0
    while quiet < 3 and time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(BUSY)
            quiet = 0 if cursor.fetchone()[0] else quiet + 1
        time.sleep(0.1)


@pytest.fixture
def pets(transactional_db: None, world: Any) -> Iterator[Any]:
    """Twelve errors cat -> dog with pictures, and exemplars of both classes."""
    world.add_findings(9)
    paint_all()
    for label in world.labels[:2]:
        for place in range(3):
            sample = factories.SampleFactory(label=label)
            factories.ExemplarFactory(scan=world.scan, sample=sample, place=place)
            paint(sample.digest, place)
    yield world
    _wait_until_quiet()
