"""One's own verdicts in Chromium: one key each to undo, from anywhere."""

from __future__ import annotations

from uuid import uuid4

import pytest

from reviewapp.actions.bulk import decide_many
from reviewapp.actions.reviews import Decision
from reviewapp.models import Review, Verdict
from tests.browser.holding import problems_at_all_sizes
from tests.browser.test_grid import pictured
from tests.reviewing import decide

__all__ = ["pictured"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def decided(pictured, labels, rita, lena):
    """Ten given as one, then three alone; one of these got a later verdict."""
    first, second, third, *others = pictured.findings
    decide_many(
        dataset=pictured.dataset,
        by=rita,
        findings=[(finding.pk, 0) for finding in others[:10]],
        decision=Decision(Verdict.DISMISS, 0, reason="duplicate", key=uuid4()),
    )
    decide(finding=first, by=rita, verdict=Verdict.CONFIRM, causes=["blur"])
    decide(finding=second, by=rita, verdict=Verdict.RELABEL, new_label=labels[2])
    decide(finding=third, by=rita, verdict=Verdict.CONFIRM)
    decide(finding=third, by=lena, verdict=Verdict.DISMISS, version=1)
    return pictured


def test_one_key_undoes_one_line_and_a_batch_as_one(decided, sign_in, rita):
    page = sign_in(rita)
    page.goto("/datasets/animals/review/verdicts/")
    lines = page.locator(".line")
    assert lines.count() == 4
    assert "lena gave the verdict dismiss later." in lines.nth(0).inner_text()
    assert "relabelled to severe" in lines.nth(1).inner_text()
    assert "10 dismissed as one: duplicate" in lines.nth(3).inner_text()
    page.keyboard.press("3")
    page.wait_for_selector("#notices >> text=10 undone.")
    page.keyboard.press("1")
    page.wait_for_selector("#notices >> text=1 undone.")
    standing = Review.objects.standing().by(rita)
    assert sorted(standing.values_list("verdict", flat=True)) == ["confirm", "confirm"]
    assert page.problems == []


def test_arrows_and_enter_undo_too(decided, sign_in, rita):
    page = sign_in(rita)
    page.goto("/datasets/animals/review/verdicts/")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#notices >> text=1 undone.")
    assert not Review.objects.standing().filter(causes=["blur"]).exists()


def test_undo_works_from_another_device_after_navigation(decided, sign_in, rita):
    sign_in(rita).goto("/datasets/animals/review/grid/?size=10")
    phone = sign_in(rita, width=390, height=844, has_touch=True)
    phone.goto("/datasets/animals/review/verdicts/")
    phone.locator(".line button").nth(0).tap()
    phone.wait_for_selector("#notices >> text=1 undone.")


def test_it_holds_up_and_axe_finds_nothing_serious(decided, sign_in, rita):
    pages = {"verdicts": "/datasets/animals/review/verdicts/"}
    assert problems_at_all_sizes(sign_in, rita, pages, axe=True, pictured=pages) == []
