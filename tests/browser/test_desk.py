"""The desk by keyboard: one key decides, and the next finding is there."""

from __future__ import annotations

import pytest

from reviewapp.models import Finding, Review, Sample, User
from tests.axe import problems_of
from tests.browser.desks import DESK, on_desk, press, settle, start

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def verdicts() -> list[str]:
    return list(Review.objects.order_by("id").values_list("verdict", flat=True))


def test_each_verdict_has_a_key(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    first = press(page, "c")
    press(page, "d")
    on_desk(page)
    page.keyboard.press("g")
    page.wait_for_selector("#chooser[open]")
    press(page, "3")
    press(page, "f")
    press(page, "1")
    on_desk(page)
    page.keyboard.press("r")
    page.keyboard.type("fox")
    last = press(page, "Enter")
    settle(page)
    assert verdicts() == ["confirm", "dismiss", "dismiss", "flag", "relabel", "relabel"]
    reviews = list(Review.objects.order_by("id"))
    assert reviews[0].finding_id == first
    assert [r.reason for r in reviews[1:3]] == ["ambiguous", "duplicate"]
    assert Sample.objects.get(findings=last).label.name == "fox"
    assert page.inner_text("#desk-done") == "6"
    assert page.problems == []


def test_causes_and_a_note_go_with_the_verdict(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    page.keyboard.press("p")
    page.keyboard.press("h")
    page.keyboard.press("n")
    # Below the fold at first: the key brings it into view.
    note = page.evaluate(
        "document.getElementById('note').getBoundingClientRect().bottom"
    )
    assert 0 < note <= page.viewport_size["height"]
    page.keyboard.type("c is a letter here")
    page.keyboard.press("Escape")
    press(page, "c")
    settle(page)
    review = Review.objects.get()
    assert (review.causes, review.note) == (["pose", "blur"], "c is a letter here")


def test_what_was_done_is_shown_and_nothing_moves(pets, rita, sign_in):
    page = sign_in(rita)  # 1440 x 900
    start(page)
    shown = page.locator("#desk-toast")
    live = page.locator("#desk-live")
    stage = page.locator(".desk__stage").bounding_box()
    bar = page.locator(".desk-bar").bounding_box()
    press(page, "c")
    assert shown.inner_text() == "Confirmed."
    assert shown.locator("button").count() == 0  # the key is at hand
    assert page.locator(".desk__stage").bounding_box() == stage
    assert page.locator(".desk-bar").bounding_box() == bar
    settle(page)
    press(page, "u")
    assert shown.inner_text() == "Undone: confirm."
    assert live.inner_text().startswith("Undone: confirm. Decide again.")
    page.keyboard.press("y")
    assert shown.inner_text() == "Nothing nearly identical waits."
    assert live.inner_text() == "Nothing nearly identical waits."
    assert shown.is_visible()
    assert page.problems == []


def test_nobody_waits_for_the_server(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    page.route("**/decide/**", lambda route: None)  # never answered
    shown = [press(page, "c") for _ in range(3)]
    assert len({*shown, on_desk(page)}) == 4
    image = page.locator(".desk__image")
    assert image.evaluate("i => i.complete && i.naturalWidth") == 1280


def test_a_double_click_is_one_verdict(pets, rita, sign_in):
    page = sign_in(rita)
    page.goto(DESK)
    page.click("text=Start reviewing")
    on_desk(page)
    settle(page)
    page.evaluate("""() => {
      const button = document.querySelector('[data-action=confirm]');
      button.click();
      button.click();
    }""")
    settle(page)
    assert Review.objects.count() == 1


def test_images_are_enlarged_and_moved(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    assert page.locator(".exemplar").count() == 6
    page.keyboard.press("e")
    assert page.locator(".compare img").count() == 6
    page.keyboard.press("Escape")
    assert page.locator(".compare").count() == 0
    page.focus(".exemplar")
    page.wait_for_selector(".lens img")
    page.locator(".exemplar").first.blur()
    moved = "document.querySelector('.desk__image').style.transform"
    page.keyboard.press("+")
    assert "scale(1.4)" in page.evaluate(moved)
    before = page.evaluate(moved)
    page.keyboard.press("ArrowRight")
    assert page.evaluate(moved) != before
    page.keyboard.press("0")
    assert page.evaluate(moved) == ""
    page.hover(".desk__stage")
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"() => {moved}.includes('scale')")
    zoomed = page.evaluate(moved)
    page.mouse.down()
    page.mouse.move(300, 300)
    page.mouse.up()
    assert page.evaluate(moved) != zoomed
    press(page, "c")  # the next image begins whole
    assert page.evaluate(moved) == ""
    assert page.problems == []


def test_undo_after_navigation(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    first = press(page, "c")
    settle(page)
    page.goto(DESK)
    page.click("text=Undo your last verdict")
    settle(page)
    assert on_desk(page) == first
    assert Finding.objects.get(pk=first).review_state == "open"
    press(page, "d")
    settle(page)
    assert verdicts() == ["confirm", "dismiss"]


def test_undo_on_the_desk_goes_back_as_often_as_wanted(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    judged = [press(page, "c") for _ in range(3)]
    settle(page)
    for wanted in reversed(judged):
        press(page, "u")
        assert on_desk(page) == wanted
    assert Finding.objects.waiting().count() == 12
    assert page.inner_text("#desk-done") == "0"


def test_changed_keys_and_no_keys(pets, rita, sign_in):
    page = sign_in(rita)
    page.goto("/account/")
    page.fill("#key-confirm", "j")
    page.click("text=Change the keys")
    start(page)
    before = on_desk(page)
    page.keyboard.press("c")  # nothing any more
    press(page, "j")
    settle(page)
    assert verdicts() == ["confirm"]
    assert on_desk(page) != before
    page.goto("/account/")
    page.uncheck("input[name=on]")
    page.click("text=Change the keys")
    start(page)
    shown = on_desk(page)
    for key in ("j", "d", "Enter", "Backspace"):
        page.keyboard.press(key)
    assert on_desk(page) == shown
    assert page.locator("#desk kbd").count() == 0


def test_keys_have_no_layout(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    shown = on_desk(page)

    def send(key: str, code: str) -> None:
        page.evaluate(
            "([key, code]) => document.body.dispatchEvent("
            "new KeyboardEvent('keydown', {key, code, bubbles: true}))",
            [key, code],
        )

    send("j", "KeyC")  # Dvorak: the letter counts, not the place
    assert on_desk(page) == shown
    # Russian: no Latin letter, so the place counts.
    send("\N{CYRILLIC SMALL LETTER ES}", "KeyC")
    assert on_desk(page) != shown
    send("&", "Digit1")  # French: the digits are shifted
    settle(page)
    assert verdicts() == ["confirm", "relabel"]


def test_the_end_of_the_queue_leads_back_to_it(pets, rita, sign_in):
    kept = [finding.pk for finding in pets.findings[:3]]
    Finding.objects.exclude(pk__in=kept).update(presence="fixed")
    page = sign_in(rita)
    start(page)
    for _ in kept[1:]:
        press(page, "c")
    page.keyboard.press("c")
    page.wait_for_url(f"**{DESK}")
    assert "Nothing waits for a verdict" in page.content()
    assert len(verdicts()) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(pets, rita, sign_in, scheme):
    page = sign_in(rita, color_scheme=scheme, reduced_motion="reduce")
    page.goto(DESK)
    found = problems_of(page)
    start(page)
    found += problems_of(page)
    page.keyboard.press("?")
    page.wait_for_selector("#keys-dialog[open]")
    found += problems_of(page)
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.wait_for_selector("#chooser[open]")
    found += problems_of(page)
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    found += problems_of(page)
    page.goto("/account/")
    found += problems_of(page)
    assert found == []


def test_without_javascript_everything_is_a_form(pets, rita, sign_in):
    page = sign_in(rita, java_script_enabled=False)
    page.goto(DESK)
    page.click("text=Start reviewing")
    first = on_desk(page)
    page.check("input[value=pose]")
    page.click("button[value=confirm]")
    assert on_desk(page) != first
    assert "Confirmed." in page.inner_text("#notices")
    page.select_option("#new-label", label="fox")
    page.click("#relabel")
    page.select_option("#reason", "unreadable")
    page.click("button[value=dismiss]")
    page.click("[data-action=skip]")
    page.click("[data-action=undo]")
    assert verdicts() == ["confirm", "relabel", "dismiss"]
    assert Review.objects.filter(undo__isnull=True).count() == 2
    assert page.locator("[data-action=zoom_in]").is_hidden()
    page.click("text=Stop")
    assert User.objects.get(pk=rita.pk).claims.count() == 0
