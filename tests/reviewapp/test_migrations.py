"""Migrations with rows in the tables: an upgrade meets a data set under review."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.apps import apps
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader

from reviewapp.actions.confusions import update_ledger
from reviewapp.actions.standings import miscounts
from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Export,
    Review,
    Standing,
    Verdict,
)
from tests import answering, factories
from tests.migrated import at_database, migrate_to, migrated_database
from tests.reviewing import decide

OLD = "0008_rows_by_statement"
WAS = "UPDATE reviewapp_confusion SET state = %s WHERE id = %s"
COUNTS = ("true_label", "predicted_label", "present", "waiting", "back", "reviewed")
COLUMNS = """
SELECT table_name, array_agg(column_name::text) FROM information_schema.columns
 WHERE table_schema = 'public' AND starts_with(table_name, 'reviewapp_')
 GROUP BY table_name ORDER BY table_name
"""


@contextmanager
def installation_of(last: str) -> Iterator[None]:
    """Work on an old version's tables, with what it kept of the rows that there are."""
    columns, rows = _columns(), {}
    with connection.cursor() as cursor:
        for table in columns:
            cursor.execute(f"SELECT json_agg(t)::text FROM {table} t")
            rows[table] = cursor.fetchone()[0] or "[]"
    template, name = migrated_database(last), f"upgraded_{os.getpid()}"
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        with at_database(name):
            _fill(columns, rows)
            yield
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")


def _columns() -> dict[str, list[str]]:
    with connection.cursor() as cursor:
        cursor.execute(COLUMNS)
        return dict(cursor.fetchall())


def _fill(columns: dict[str, list[str]], rows: dict[str, str]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        # The rows are as triggers left them, and come in no order.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for table, old in _columns().items():
            both = ", ".join(set(old) & set(columns[table]))
            cursor.execute(
                f"INSERT INTO {table} ({both}) OVERRIDING SYSTEM VALUE"
                f" SELECT {both} FROM json_populate_recordset(NULL::{table}, %s)",
                [rows[table]],
            )


def go_on_counting() -> None:
    """Number new rows after those that came with their numbers."""
    models = apps.get_app_config("reviewapp").get_models()
    with connection.cursor() as cursor:
        for sql in connection.ops.sequence_reset_sql(no_style(), list(models)):
            cursor.execute(sql)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_an_upgrade_counts_what_is_under_review_and_finds_its_claims(world, lena):
    """Fixed stays fixed; a claim counts from its first export, unless the line came back."""
    dog, fox = world.labels[1:]
    world.add_findings(1, true=1, predicted=2)
    back = factories.ConfusionFactory(
        registered_model=world.model, true_label=dog, predicted_label=fox
    )
    for finding in world.findings:
        decide(finding=finding, by=lena, verdict=Verdict.CONFIRM)
    answering.export(world.findings, lena)
    ConfusionEvent.objects.create(confusion=back, new_state="regressed")
    fixed = Confusion.objects.exclude(pk=back.pk).get()
    world.add_findings(1, true=2, predicted=1)
    before = sorted(Standing.objects.values_list(*COUNTS))
    assert [counts[2:] for counts in before] == [
        (3, 0, 0, 3),
        (1, 0, 0, 1),
        (1, 1, 0, 0),
    ]

    with installation_of(OLD):
        with connection.cursor() as cursor:
            for line, state in ((fixed, "fixed"), (back, "regressed")):
                cursor.execute(WAS, [state, line.pk])
        migrate_to()
        go_on_counting()
        assert sorted(Standing.objects.values_list(*COUNTS)) == before
        assert not miscounts()
        check_it_goes_on(world, lena)
        check_claims(world, fixed, back)


def check_it_goes_on(world, lena) -> None:
    reviewed = Review.objects.for_dataset(world.dataset).count()
    assert reviewed == len(world.findings) - 1
    decide(finding=world.findings[-1], by=lena, verdict=Verdict.FLAG)
    assert Review.objects.for_dataset(world.dataset).count() == reviewed + 1


def check_claims(world, fixed: Confusion, back: Confusion) -> None:
    fixed.refresh_from_db()
    exported_at = Export.objects.get().finished_at
    assert (fixed.state, fixed.claimed_at) == ("fixed", exported_at)
    assert fixed.evidence == {
        "says": "fixed",
        "why": "before",
        "proved_by": world.scan.pk,
    }
    back.refresh_from_db()
    assert (back.state, back.claimed_at) == ("regressed", None)
    assert back.evidence == {"says": "regressed", "why": "before"}
    update_ledger(dataset=world.dataset, model=world.model)
    fixed.refresh_from_db()
    assert fixed.state == "fixed"


def test_every_migration_can_be_taken_back():
    migrations = MigrationLoader(None).disk_migrations
    for (application, name), migration in migrations.items():
        if application == "reviewapp":
            assert all(o.reversible for o in migration.operations), name
