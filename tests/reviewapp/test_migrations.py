"""Migrations with rows in the tables: an upgrade meets a data set under review."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

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
from tests.reviewing import decide

WAS = "UPDATE reviewapp_confusion SET state = %s WHERE id = %s"
COUNTS = ("true_label", "predicted_label", "present", "waiting", "back", "reviewed")


@pytest.fixture
def migrate(transactional_db: None) -> Iterator[Callable[..., None]]:
    """Bring the tables to a migration, or to the last one, where they end up."""

    def migrate(name: str = "") -> None:
        executor = MigrationExecutor(connection)
        last = executor.loader.graph.leaf_nodes()
        executor.migrate([("reviewapp", name)] if name else last)

    yield migrate
    migrate()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
def test_an_upgrade_counts_what_is_under_review_and_finds_its_claims(
    world, lena, migrate
):
    """Fixed stays fixed; a claim counts from its first export, unless the line came back."""
    dog, fox = world.labels[1:]
    world.add_findings(1, true=1, predicted=2)
    back = factories.ConfusionFactory(
        registered_model=world.model, true_label=dog, predicted_label=fox
    )
    for finding in world.findings:
        decide(finding=finding, by=lena, verdict=Verdict.CONFIRM)
    reviewed = len(world.findings)
    answering.export(world.findings, lena)
    exported_at = Export.objects.get().finished_at
    fixed = Confusion.objects.exclude(pk=back.pk).get()
    world.add_findings(1, true=2, predicted=1)
    before = sorted(Standing.objects.values_list(*COUNTS))
    assert [counts[2:] for counts in before] == [
        (3, 0, 0, 3),
        (1, 0, 0, 1),
        (1, 1, 0, 0),
    ]

    migrate("0008_rows_by_statement")
    migrate("0017_waiting_at_the_end")
    with connection.cursor() as cursor:
        for pk, state in ((fixed.pk, "fixed"), (back.pk, "regressed")):
            cursor.execute(WAS, [state, pk])
    ConfusionEvent.objects.create(confusion=back, new_state="regressed")
    migrate()

    assert sorted(Standing.objects.values_list(*COUNTS)) == before
    assert not miscounts()
    decide(finding=world.findings[-1], by=lena, verdict=Verdict.FLAG)
    assert Review.objects.for_dataset(world.dataset).count() == reviewed + 1
    fixed.refresh_from_db()
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
