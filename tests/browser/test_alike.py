"""Nearly identical images on the desk: one key gives them the same verdict."""

from __future__ import annotations

import os

import pytest

from reviewapp.models import Finding, Lookalike, Review
from tests.axe import problems_of
from tests.browser.test_grid import pictured

__all__ = ["pictured"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
KEPT = os.environ.get("HARDMINE_SCREENSHOTS")


@pytest.fixture
def alike(pictured):
    """Three others look like the hardest one."""
    first, *others = pictured.findings
    for distance, other in enumerate(others[10:13]):
        Lookalike.objects.create(
            dataset=pictured.dataset,
            sample=first.sample,
            other=other.sample,
            distance=distance,
        )
    return pictured


@pytest.fixture
def desk(alike, sign_in, rita):
    """Return the desk of the first one, its verdict given."""

    def decide_first(**options):
        page = sign_in(rita, reduced_motion="reduce", **options)
        page.goto("/datasets/animals/review/?order=hardest")
        page.click("text=Start reviewing")
        page.wait_for_selector("html.is-ready")
        page.keyboard.press("d")
        page.wait_for_selector("#alike")
        return page

    return decide_first


def test_y_decides_them_and_one_undo_takes_them_back(desk, alike):
    page = desk()
    offer = page.locator("#alike")
    assert "3 nearly identical images wait" in offer.inner_text()
    page.keyboard.press("y")
    page.wait_for_selector("text=3 dismissed.")
    decided = Finding.objects.filter(review_state="dismissed")
    wanted = {alike.findings[0].pk, *(f.pk for f in alike.findings[11:14])}
    assert set(decided.values_list("pk", flat=True)) == wanted
    page.goto("/datasets/animals/review/verdicts/")
    assert "3 dismissed as one" in page.locator(".line").first.inner_text()
    page.keyboard.press("1")
    page.wait_for_selector("#notices >> text=3 undone.")
    assert Review.objects.standing().count() == 1


def test_what_is_not_ticked_is_left_out(desk):
    page = desk()
    page.locator("#alike input[name=finding]").first.uncheck()
    page.locator("#alike button").click()
    page.wait_for_selector("text=2 dismissed.")


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1440, 900, "light"), (390, 844, "dark")]
)
def test_the_offer_holds_up(desk, width, height, scheme):
    page = desk(width=width, height=height, color_scheme=scheme)
    assert problems_of(page) == []
    if KEPT:
        page.screenshot(path=f"{KEPT}/alike-{width}-{scheme}.png")
    assert page.problems == []
