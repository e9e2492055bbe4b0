"""Comparisons through the API."""

from __future__ import annotations

import pytest

from reviewapp import tasks
from reviewapp.models import Comparison
from tests import factories
from tests.comparing import add_samples, add_scan

URL = "/api/datasets/animals/comparisons/"


@pytest.fixture
def scans(version, registered_model, labels):
    later = factories.ModelVersionFactory(registered_model=registered_model)
    samples = add_samples(labels, "ccdd")
    return add_scan(version, samples, "cdcd"), add_scan(later, samples, "ccdd")


@pytest.fixture
def body(scans) -> dict[str, object]:
    return {"baseline": scans[0].pk, "candidate": scans[1].pk}


def test_it_is_asked_for_polled_and_read(api_of, rita, body) -> None:
    api = api_of(rita)
    asked = api.post(URL, body)
    assert asked.status_code == 202
    assert (asked.data["state"], asked.data["figures"]) == ("queued", {})
    tasks.run_comparison(asked.data["id"])

    done = api.get(f"{URL}{asked.data['id']}/").data
    assert (done["state"], done["labels"], done["common"]) == (
        "done",
        "corrected",
        False,
    )
    assert done["figures"]["fixed"] == 2
    details = api.get(f"{URL}{done['id']}/details/").data["details"]
    assert len(details["images"]["fixed"]) == 2
    assert [row["id"] for row in api.get(URL).data["results"]] == [done["id"]]


def test_it_refuses_what_makes_no_sense(api_of, rita, charlie, body, scans) -> None:
    api = api_of(rita)
    itself = api.post(URL, body | {"candidate": scans[0].pk})
    assert itself.status_code == 400
    assert "with itself" in itself.data["detail"]
    hidden = factories.ScanFactory(
        model_version__registered_model__dataset=charlie.memberships.get().dataset
    )
    assert api.post(URL, body | {"baseline": hidden.pk}).status_code == 404
    assert api.post(URL, body | {"labels": "mixed"}).status_code == 400
    assert "typo" in api.post(URL, body | {"typo": 1}).data
    assert not Comparison.objects.exists()
