"""Thresholds and slices through the API."""

from __future__ import annotations

import pytest

from reviewapp import tasks
from reviewapp.models import Analysis
from tests import factories
from tests.analysing import Seen, add_scan

URL = "/api/datasets/animals/analyses/"


@pytest.fixture
def scan(version):
    return add_scan(version, [Seen(0, i % 2, 0.5 + i / 100) for i in range(50)])


def test_it_is_asked_for_polled_and_read(api_of, rita, scan) -> None:
    api = api_of(rita)
    assert api.get(f"{URL}{scan.pk}/").data == []
    empty = api.get(f"{URL}{scan.pk}/thresholds/").data
    assert empty == {"figures": {}, "region": {}}
    assert api.get(f"{URL}{scan.pk}/slices/").data == {"figures": {}}
    asked = api.post(URL, {"scan": scan.pk})
    assert asked.status_code == 202
    assert {row["what"]: row["state"] for row in asked.data} == {
        "thresholds": "queued",
        "slices": "queued",
    }
    for row in asked.data:
        tasks.run_analysis(row["id"])
    states = [row["state"] for row in api.get(f"{URL}{scan.pk}/").data]
    assert states == ["done", "done"]
    query = "?threshold=0.8&look=1&error=0&true=cat&predicted=dog&cost=100"
    found = api.get(f"{URL}{scan.pk}/thresholds/{query}").data
    assert found["figures"]["errors"] == 25
    assert found["region"]["at"]["accepted"] == 20
    assert found["region"]["cheapest"]["errors"] == 0
    assert api.get(f"{URL}{scan.pk}/slices/").data["figures"]["drawn"] == 50


def test_it_refuses_what_makes_no_sense(api_of, rita, charlie, scan) -> None:
    api = api_of(rita)
    page = f"{URL}{scan.pk}/thresholds/"
    assert "threshold" in api.get(f"{page}?threshold=2").data
    assert "limit" in api.get(f"{page}?limit=1").data
    assert api.get(f"{page}?true=yak&predicted=&cost=1").status_code == 400
    running = factories.ScanFactory(
        model_version=factories.ModelVersionFactory(
            registered_model=scan.model_version.registered_model
        ),
        state="running",
    )
    assert api.post(URL, {"scan": running.pk}).status_code == 400
    assert "typo" in api.post(URL, {"scan": scan.pk, "typo": 1}).data
    hidden = factories.ScanFactory(
        model_version__registered_model__dataset=charlie.memberships.get().dataset
    )
    assert api.post(URL, {"scan": hidden.pk}).status_code == 404
    assert api.get(f"{URL}{hidden.pk}/").status_code == 404
    assert not Analysis.objects.exists()
