"""Fixtures of the fault tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from reviewapp.celery import app
from reviewapp.models import Scan
from tests.flows.plant import Plant


@pytest.fixture(scope="session")
def built_plant(django_db_blocker, migrated: str) -> Iterator[Plant]:
    """One plant for each process of the test run: it takes seconds to build."""
    with django_db_blocker.unblock():
        plant = Plant(migrated)
        yield plant
        plant.close()


@pytest.fixture
def plant(built_plant: Plant, django_db_blocker) -> Iterator[Plant]:
    """A plant without orders, work or faults of the test before."""
    with django_db_blocker.unblock(), built_plant.at_work():
        built_plant.start_servers()
        for path in (built_plant.var / "orders").iterdir():
            path.unlink()
        if Scan.objects.active().update(state=Scan.State.CANCELLED):
            built_plant.dismiss()  # the test before failed: nobody knows their state
        app.control.purge()
        yield built_plant
        sys.stdout.write(built_plant.last_words())  # shown when the test failed
