"""The committed schema is the one that the code gives, and it is valid."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.test import Client
from openapi_spec_validator import validate

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.yaml"


def test_the_committed_schema_is_up_to_date_and_without_warnings(
    tmp_path: Path,
) -> None:
    fresh = tmp_path / "openapi.yaml"
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(fresh))
    assert fresh.read_text() == COMMITTED.read_text(), (
        "Run: python manage.py spectacular --validate --fail-on-warn --file "
        "docs/openapi.yaml"
    )


def test_the_schema_is_valid_openapi() -> None:
    schema = yaml.safe_load(COMMITTED.read_text())
    validate(schema)
    assert len(schema["paths"]) > 30


@pytest.mark.django_db
def test_the_schema_is_for_people_who_are_signed_in(client: Client) -> None:
    assert client.get("/api/schema/").status_code == 401
