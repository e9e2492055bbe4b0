"""What statement triggers keep in place of foreign keys."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction

from reviewapp.models import (
    Dataset,
    Finding,
    RegisteredModel,
    Scan,
    Sighting,
)
from tests import factories


def test_a_finding_names_a_model_labels_and_a_sample_of_its_data_set(world):
    other = factories.LabelFactory(dataset=factories.DatasetFactory())
    foreign = factories.SampleFactory(dataset=other.dataset, label=other)
    stranger = factories.RegisteredModelFactory()
    options = {
        "sample": world.findings[0].sample,
        "predicted_label": world.labels[2],
        "registered_model": world.model,
    }
    for wrong in (
        {"true_label": other},
        {"predicted_label": other},
        {"registered_model": stranger},
        {"sample": foreign, "dataset": world.dataset},
    ):
        with pytest.raises(IntegrityError, match="data set"), transaction.atomic():
            factories.FindingFactory(**{**options, **wrong})
    factories.FindingFactory(**options)


def test_a_sighting_names_a_scan_that_is_there(world):
    with pytest.raises(IntegrityError, match="scan"), transaction.atomic():
        factories.SightingFactory(
            finding=world.findings[0], scan=Scan(pk=world.scan.pk + 1)
        )


def test_a_sighting_names_a_finding_that_is_there(world):
    gone = Finding(pk=world.findings[-1].pk + 1000, priority=0.5, confidence=0.5)
    with pytest.raises(IntegrityError, match="finding"), transaction.atomic():
        factories.SightingFactory(finding=gone, scan=world.scan)


def test_no_table_is_read_whole_for_what_findings_name(world):
    """A session keeps the plan that it made while a table was small."""
    sample = world.findings[0].sample
    tables = ["finding", "label", "registeredmodel", "sample", "scan"]

    def scans() -> list[tuple[str, int]]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT relname, seq_scan FROM pg_stat_xact_user_tables"
                " WHERE relname = ANY(%s) ORDER BY 1",
                [[f"reviewapp_{table}" for table in tables]],
            )
            return cursor.fetchall()

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # so that it is known how small they are
    before = scans()
    assert len(before) == len(tables)
    finding = factories.FindingFactory(
        sample=sample,
        predicted_label=world.labels[2],
        registered_model=world.model,
    )
    factories.SightingFactory(finding=finding, scan=world.scan)
    assert scans() == before


@pytest.mark.parametrize(
    "table", ["label", "registeredmodel", "scan", "sample", "finding"]
)
def test_what_findings_name_cannot_be_deleted(world, table):
    delete = f"DELETE FROM reviewapp_{table}"
    with connection.cursor() as cursor, transaction.atomic():
        with pytest.raises(IntegrityError, match="still name"):
            cursor.execute(delete)
        transaction.set_rollback(True)


def test_a_scan_is_deleted_with_its_sightings(world):
    world.scan.delete()
    assert not Sighting.objects.exists()
    assert Finding.objects.count() == 3


def test_a_model_is_deleted_with_its_findings(world):
    world.model.delete()
    assert not RegisteredModel.objects.exists()
    assert not Finding.objects.exists()
    assert Dataset.objects.filter(pk=world.dataset.pk).exists()
