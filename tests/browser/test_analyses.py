"""Thresholds and slices at two sizes and in two schemes, with 3 and with 1,000 classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reviewapp import tasks
from reviewapp.actions.analyses import run_analysis, start_analyses
from reviewapp.models import Analysis, Label, Scan
from tests import factories
from tests.analysing import Seen, add_scan
from tests.browser.desks import paint
from tests.browser.holding import problems_at_all_sizes


def _world(version, classes: int) -> Scan:
    """Add a scan whose dark images of camera B are mostly wrong."""
    random = np.random.default_rng(classes)
    seen = []
    for i in range(240):
        camera, light = "ABC"[i % 3], float(random.random())
        wrong = random.random() < (0.7 if camera == "B" and light < 0.4 else 0.06)
        true = i % min(classes, 40)
        confidence = float(random.beta(6, 1) * 0.7 + 0.3)
        predicted = (true + 1) % classes if wrong else true
        given = {"camera": camera, "batch": str(i % 7)}
        p_true = (1 - confidence) / 2
        seen.append(Seen(true, predicted, confidence, light, given, p_true))
    return add_scan(version, seen, findings=True)


def _analyse(scan: Scan) -> Scan:
    """Compute what its pages show."""
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    return scan


@pytest.fixture
def scans(transactional_db, version, registered_model, dataset) -> dict[str, Scan]:
    """Return scans by name: of 3 classes, of 1,000, and of an import without images."""
    few = _analyse(_world(version, 3))
    for place, sighting in enumerate(few.sightings.select_related("finding")):
        paint(sighting.finding.digest, place)
    again = {"registered_model": registered_model}
    bare = [Seen(i % 3, i % 2, brightness=None) for i in range(60)]
    imported = add_scan(
        factories.ModelVersionFactory(**again), bare, trigger=Scan.Trigger.IMPORT
    )
    Label.objects.bulk_create(
        Label(dataset=dataset, index=i, name=f"class {i} of a long taxonomy")
        for i in range(3, 1000)
    )
    many = _analyse(_world(factories.ModelVersionFactory(**again), 1000))
    for sighting in many.sightings.select_related("finding"):
        paint(sighting.finding.digest, 1)
    return {"few": few, "many": many, "imported": _analyse(imported)}


@pytest.mark.browser
@pytest.mark.timeout(400)
def test_thresholds_and_slices_hold_up_and_what_is_clicked_is_asked(
    scans, rita, sign_in, monkeypatch
) -> None:
    base = "/datasets/animals/scans"
    few, many, imported = (f"{base}/{scan.pk}" for scan in scans.values())
    costs = "?threshold=0.8&width=0.1&true=cat&predicted=yak&cost=1"
    pages = {
        "thresholds": f"{few}/thresholds/",
        "thresholds-many": f"{many}/thresholds/",
        "thresholds-imported-refused": f"{imported}/thresholds/{costs}",
        "slices-chosen": f"{few}/slices/?slice=tree-0",
        "slices-many": f"{many}/slices/",
        "slices-imported": f"{imported}/slices/",
    }
    assert problems_at_all_sizes(sign_in, rita, pages, axe=True, pictured=pages) == []

    monkeypatch.setattr(tasks, "_send", lambda *args, **options: None)
    page = sign_in(rita)
    _click_the_curve(page, f"{few}/thresholds/")
    page.goto(f"{few}/thresholds/?width=0.3")
    page.click("button:has-text('Review')")
    page.wait_for_url("**/review/**")
    assert "confidence_from=0.6" in page.url
    # Made again, the page shows the result by itself.
    page.goto(f"{few}/slices/")
    page.click("button:text('Compute again')")
    page.wait_for_selector("[role=status]")
    for analysis in Analysis.objects.filter(scan=scans["few"]):
        run_analysis(analysis=analysis)
    page.wait_for_selector("[role=status]", state="detached")
    assert page.problems == []


def _click_the_curve(page: Any, address: str) -> None:
    """Click at the half: that threshold is asked for, and what was asked for stays."""
    page.goto(f"{address}?look=2&error=9")
    chart = page.locator("[data-figure=curve-figure]")
    chart.locator(".main-svg").first.wait_for()
    box = chart.locator(".nsewdrag").bounding_box()
    # At once after another place, of which Plotly would tell for 50 ms.
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url("**threshold=0.5*")
    assert "look=2" in page.url
