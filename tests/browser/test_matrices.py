"""The matrix in Chromium: drawn, explained, and each cell a way to its findings."""

from __future__ import annotations

import re

import pytest

from reviewapp.models import Label
from tests import factories
from tests.browser.desks import paint_all
from tests.browser.holding import problems_at_all_sizes

DRAWN = re.compile("Click a cell|Tap a cell")
NAME = '<a href="https://evil.example/x">dog</a>'


@pytest.fixture
def scans(transactional_db, world):
    """The world's scan of cats, and one before it that also took foxes for dogs."""
    Label.objects.filter(name="dog").update(name=NAME)
    before = factories.ScanFactory(
        model_version=world.scan.model_version, correct=9, errors=6
    )
    for true, predicted, n in ((0, 0, 5), (0, 1, 5), (2, 2, 4), (2, 1, 1)):
        factories.ConfusionCountFactory(
            scan=before,
            true_label=world.labels[true],
            predicted_label=world.labels[predicted],
            count=n,
        )
    paint_all()
    return world.scan, before


def at_cat_to_dog(page) -> tuple[float, float]:
    """Return where the second row has its first column: the name sorts before "cat"."""
    page.locator("#matrix-status", has_text=DRAWN).wait_for()
    page.locator("#matrix").scroll_into_view_if_needed()
    box = page.locator("#matrix .nsewdrag").bounding_box()
    return box["x"] + box["width"] * 0.15, box["y"] + box["height"] * 0.5


@pytest.mark.browser
def test_a_cell_says_what_it_is_and_leads_to_its_findings(scans, rita, sign_in):
    scan, before = scans
    address = f"/datasets/animals/scans/{scan.pk}/matrix/?order=name"
    page = sign_in(rita)
    page.goto(address)
    # Labels are text, though Plotly reads a kind of HTML.
    x, y = at_cat_to_dog(page)
    assert page.locator("#matrix a").count() == 0
    page.mouse.move(x - 2, y)
    page.mouse.move(x, y)
    tip = page.locator("#matrix-tip")
    tip.wait_for()
    assert tip.inner_text() == f"cat → {NAME}\n3 of 10 (30.0 % of the actual class)"
    # At once after another cell, of which Plotly would tell for 50 ms.
    page.mouse.move(x + 200, y)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**/findings/?**")
    assert page.locator("h1").inner_text().split() == ["Findings", "3"]
    assert page.problems == []

    phone = sign_in(rita, width=390, height=844, has_touch=True, is_mobile=True)
    phone.goto(f"{address}&against={before.pk}")
    phone.touchscreen.tap(*at_cat_to_dog(phone))
    phone.locator("#matrix-tip a").wait_for()
    said = phone.locator("#matrix-tip").inner_text()
    assert "before 5 of 10 (50.0 % of the actual class)\nnow 3 of 10" in said
    phone.locator("#matrix-tip a").click()
    phone.wait_for_url("**/findings/?**")
    assert phone.problems == []


SCALE = """() => {
  const [{zmax, zmin, colorscale, colorbar}] = document.getElementById("matrix").data;
  const surface = getComputedStyle(document.documentElement).getPropertyValue("--surface");
  return {zmax, zmin, words: colorbar.ticktext, isNothing: colorscale[1][1] === surface.trim()};
}"""


@pytest.mark.browser
def test_one_large_change_makes_no_small_one_pale(
    transactional_db, world, rita, sign_in
):
    labels = world.labels + [
        factories.LabelFactory(dataset=world.dataset, index=n) for n in range(3, 9)
    ]
    version = world.scan.model_version
    before, now = (factories.ScanFactory(model_version=version) for _ in range(2))
    for true in labels:
        for predicted in labels:
            size = 100 if (true, predicted) == (labels[0], labels[1]) else 1
            factories.ConfusionCountFactory(
                scan=now, true_label=true, predicted_label=predicted, count=size
            )
    page = sign_in(rita)
    for shown in ("dark", "light"):
        page.emulate_media(color_scheme=shown)
        page.goto(f"/datasets/animals/scans/{now.pk}/matrix/?against={before.pk}")
        page.locator("#matrix-status", has_text=DRAWN).wait_for()
        assert page.evaluate(SCALE) == {
            "zmax": 1,
            "zmin": -1,
            "words": ["≤ −1", "0", "≥ +1"],  # noqa: RUF001 (as numbers are written)
            "isNothing": True,
        }
    assert page.problems == []


@pytest.mark.browser
def test_the_matrix_holds_up_at_all_sizes(scans, rita, sign_in):
    scan, before = scans
    address = f"/datasets/animals/scans/{scan.pk}/matrix/"
    pages = {"matrix": address, "matrix-difference": f"{address}?against={before.pk}"}
    assert problems_at_all_sizes(sign_in, rita, pages, axe=True) == []
