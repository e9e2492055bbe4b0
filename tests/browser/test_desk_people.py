"""Two people at once, a takeover, and a phone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from reviewapp.models import Claim, Review
from tests.axe import problems_of
from tests.browser.desks import DESK, on_desk, press, settle, start

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
PHONE = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}


def swipe(page, dx: int, dy: int) -> None:
    """Move a finger over the image."""
    box = page.locator(".desk__stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)
    points = [(x, y), (x + dx / 2, y + dy / 2), (x + dx, y + dy)]
    for kind, point in zip(
        ("touchStart", "touchMove", "touchMove"), points, strict=True
    ):
        touch.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": point[0], "y": point[1]}]},
        )
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_two_people_never_see_the_same_finding(pets, rita, lena, sign_in):
    pages = [sign_in(rita), sign_in(lena)]
    seen: list[int] = []
    for page in pages:
        start(page)
    for _ in range(4):
        for page in pages:
            seen.append(on_desk(page))
            press(page, "c")
    for page in pages:
        settle(page)
        assert page.locator("#outbox .notice").count() == 0
    assert len(set(seen)) == 8
    assert Review.objects.count() == 8
    held = Claim.objects.values_list("finding", flat=True)
    assert not set(held) & set(seen)


def test_a_takeover_is_told_before_the_verdict(pets, rita, lena, sign_in):
    page = sign_in(rita)
    start(page)
    mine = on_desk(page)
    Claim.objects.filter(finding=mine).update(
        reviewer=lena, expires_at=timezone.now() + timedelta(minutes=5)
    )
    # As after a night with the laptop closed.
    page.evaluate(
        "dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))"
    )
    page.wait_for_selector("#desk >> text=lena has taken this finding over.")
    assert press(page, "s") == mine
    settle(page)
    assert on_desk(page) != mine
    assert not Review.objects.exists()


def test_what_expired_is_held_again_and_given_back_by_who_leaves(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    Claim.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    with page.expect_response("**/renew/"):
        page.evaluate(
            "dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))"
        )
    assert Claim.objects.filter(expires_at__gt=timezone.now()).count() == 5
    page.goto("/account/")
    page.goto(DESK)
    assert "Give back" not in page.inner_text("main")
    assert not Claim.objects.exists()


def test_an_opened_link_is_held(pets, rita, sign_in):
    page = sign_in(rita)
    with page.expect_response("**/renew/"):
        page.goto(f"{DESK}{pets.findings[7].pk}/")
    settle(page)
    assert Claim.objects.get(finding=pets.findings[7]).reviewer == rita


def test_on_a_phone_a_swipe_decides(pets, rita, sign_in):
    page = sign_in(rita, **PHONE)
    start(page)
    assert page.locator(".desk__swipes").is_visible()
    for dx, name in ((160, "Confirmed."), (-160, "Dismissed.")):
        before = on_desk(page)
        swipe(page, dx, 0)
        page.wait_for_selector(f"#desk-toast >> text={name}")
        assert on_desk(page) != before
    before = on_desk(page)
    swipe(page, 0, -160)
    page.click("#chooser >> text=dog")
    page.wait_for_selector("#desk-toast >> text=Relabelled.")
    page.click("#desk-toast >> text=Undo")
    page.wait_for_selector(f"#desk[data-finding='{before}']")
    settle(page)
    standing = Review.objects.filter(undo__isnull=True).order_by("id")
    assert [r.verdict for r in standing] == ["confirm", "dismiss"]
    assert page.problems == []


def test_on_a_phone_a_finger_finds_every_button(pets, rita, sign_in):
    page = sign_in(rita, **PHONE)
    start(page)
    small = page.evaluate("""() => [...document.querySelectorAll('#desk button')]
      .filter((b) => b.offsetParent && b.getBoundingClientRect().height < 40)
      .map((b) => b.textContent.trim())""")
    assert small == []
    assert page.locator("[data-action=confirm]").bounding_box()["y"] > 700
    assert problems_of(page) == []
    # An image that is enlarged is moved by a finger, and not judged.
    before = on_desk(page)
    page.click("[data-action=zoom_in]")
    moved = "document.querySelector('.desk__image').style.transform"
    enlarged = page.evaluate(moved)
    swipe(page, 160, 0)
    assert page.evaluate(moved) != enlarged
    assert on_desk(page) == before
    assert not Review.objects.exists()
