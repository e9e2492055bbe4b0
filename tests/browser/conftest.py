"""What the desk's browser tests share."""

from __future__ import annotations

from typing import Any

import pytest

from tests import factories
from tests.browser.desks import paint, paint_all


@pytest.fixture
def pets(transactional_db: None, world: Any) -> Any:
    """Twelve errors cat -> dog with pictures, and exemplars of both classes."""
    world.add_findings(9)
    paint_all()
    for label in world.labels[:2]:
        for place in range(3):
            sample = factories.SampleFactory(label=label)
            factories.ExemplarFactory(scan=world.scan, sample=sample, place=place)
            paint(sample.digest, place)
    return world
