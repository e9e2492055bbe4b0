"""Migrations with rows in the tables: an upgrade meets a data set under review."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from reviewapp.actions.standings import miscounts
from reviewapp.models import Review, Standing, Verdict
from tests.reviewing import decide

COUNTS = ("true_label", "predicted_label", "present", "waiting", "back", "reviewed")


@pytest.fixture
def migrate(transactional_db: None) -> Iterator[Callable[[str], None]]:
    """Bring the tables to a migration; they are brought back to the last one."""

    def migrate(name: str) -> None:
        MigrationExecutor(connection).migrate([("reviewapp", name)])

    yield migrate
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
def test_an_upgrade_counts_what_is_under_review(world, rita, migrate):
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM)
    before = sorted(Standing.objects.values_list(*COUNTS))
    migrate("0008_rows_by_statement")
    migrate("0013_comparisons")
    assert sorted(Standing.objects.values_list(*COUNTS)) == before
    assert before[0][2:] == (3, 2, 0, 1)
    assert not miscounts()
    decide(finding=world.findings[1], by=rita, verdict=Verdict.FLAG)
    assert Review.objects.count() == 2
