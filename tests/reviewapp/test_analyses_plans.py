"""What the pages of a scan's analyses read, of 20,000 findings."""

from __future__ import annotations

import pytest
from django.http import QueryDict

from reviewapp.actions.reviews import claim
from reviewapp.forms.analyses import RegionForm
from reviewapp.models import Finding
from reviewapp.queues import Lane
from reviewapp.regions import band_queue, waiting_in_band
from reviewapp.views.analyses import _closest
from tests import factories
from tests.reviewapp.test_plans import crowd, reads  # noqa: F401 (fixtures)

# In one process: the crowd takes seconds to make.
pytestmark = [pytest.mark.django_db, pytest.mark.xdist_group("crowd")]


@pytest.fixture
def form(crowd) -> RegionForm:  # noqa: F811
    form = RegionForm(QueryDict("threshold=0.5&width=0.01"), classes={})
    form.full_clean()
    return form


@pytest.fixture
def scan(crowd):  # noqa: F811
    version = factories.ModelVersionFactory(registered_model=crowd.model)
    return factories.ScanFactory(dataset=crowd.dataset, model_version=version)


@pytest.mark.parametrize("lane", [Lane.ALL, Lane.NEAR_MISS])
def test_the_findings_of_a_band_come_from_an_index(crowd, scan, form, lane, reads):  # noqa: F811
    queue = band_queue(crowd.dataset, scan, form, lane)
    found = waiting_in_band(scan, form, lane)
    waiting = found.order_by("confidence", "id")
    assert 10 < waiting[:1001].count() < 1001
    assert len(_closest(found, 0.5)) == 12
    handed_out = claim(queue=queue, by=crowd.by, limit=5)
    confidences = [finding.confidence for finding in handed_out]
    assert confidences == sorted(confidences)
    assert 0.49 <= confidences[0] <= confidences[-1] <= 0.51


@pytest.mark.parametrize(
    ("confidence", "low", "high", "is_in"),
    [
        (0.9, 0.9, 0.95, True),
        (0.8999999761581421, 0.9, 0.95, True),  # 0.9 as a scan keeps it
        (0.949999988079071, 0.9, 0.95, True),
        (0.949999988079071, 0.9, 0.9499, False),
        (0.89, 0.9, None, False),
        (0.0, None, 0.1, True),
        (1.0, 0.99, None, True),
    ],
)
def test_a_range_of_confidences_has_its_ends(
    world, confidence, low, high, is_in
) -> None:
    few = Finding.objects.for_dataset(world.dataset)
    few.update(confidence=confidence)
    assert few.of_confidence(low, high).exists() == is_in
