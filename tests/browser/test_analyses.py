"""Thresholds and slices at two sizes and in two schemes, with 3 and with 1,000 classes."""

from __future__ import annotations

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
def few(transactional_db, version) -> Scan:
    """Return a scan of 3 classes."""
    scan = _analyse(_world(version, 3))
    for place, sighting in enumerate(scan.sightings.select_related("finding")):
        paint(sighting.finding.digest, place)
    return scan


@pytest.fixture
def scans(few, registered_model, dataset) -> dict[str, Scan]:
    """Return scans by name: of 3 classes, of 1,000, and of an import without images."""
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
def test_thresholds_and_slices_hold_up(scans, rita, sign_in) -> None:
    base = "/datasets/animals/scans"
    pages = {}
    for name, scan in scans.items():
        pages[f"thresholds-{name}"] = f"{base}/{scan.pk}/thresholds/"
        pages[f"slices-{name}"] = f"{base}/{scan.pk}/slices/"
    few = scans["few"].pk
    costs = "?threshold=0.8&width=0.1&true=cat&predicted=yak&cost=1"
    pages["thresholds-refused"] = f"{base}/{few}/thresholds/{costs}"
    pages["slices-chosen"] = f"{base}/{few}/slices/?slice=tree-0"
    assert problems_at_all_sizes(sign_in, rita, pages, axe=True, pictured=pages) == []


@pytest.mark.browser
def test_a_click_on_the_curve_asks_and_the_band_goes_to_the_queue(
    few, rita, sign_in, monkeypatch
) -> None:
    monkeypatch.setattr(tasks, "_send", lambda *args, **options: None)
    page = sign_in(rita)
    page.goto(f"/datasets/animals/scans/{few.pk}/thresholds/?look=2&error=9")
    chart = page.locator("[data-figure=curve-figure]")
    chart.locator(".main-svg").first.wait_for()
    box = chart.locator(".nsewdrag").bounding_box()
    # At once after another place, of which Plotly would tell for 50 ms.
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url("**threshold=0.5*")
    assert "look=2" in page.url  # what was asked for stays
    page.goto(f"/datasets/animals/scans/{few.pk}/thresholds/?width=0.3")
    page.click("button:has-text('Review')")
    page.wait_for_url("**/review/**")
    assert "confidence_from=0.6" in page.url
    # Made again, the page shows the result by itself.
    page.goto(f"/datasets/animals/scans/{few.pk}/slices/")
    page.click("button:text('Compute again')")
    page.wait_for_selector("[role=status]")
    for analysis in Analysis.objects.filter(scan=few):
        run_analysis(analysis=analysis)
    page.wait_for_selector("[role=status]", state="detached")
    assert page.problems == []
