"""The grid in Chromium: many findings, one verdict, by mouse, key and finger."""

from __future__ import annotations

import functools
import io
import os
from itertools import cycle
from pathlib import Path

import elpv_dataset
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from PIL import Image

from reviewapp.models import Claim, Finding, Label, Review, Standing, Verdict
from reviewapp.thumbnails import SIZES, thumbnail_name
from tests.axe import problems_of
from tests.browser.desks import press, settle
from tests.reviewing import decide

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
N = 14
KEPT = os.environ.get("HARDMINE_SCREENSHOTS")


@functools.cache
def webp(path: Path, side: int) -> bytes:
    out = io.BytesIO()
    Image.open(path).convert("L").resize((side, side)).save(out, "WEBP", quality=70)
    return out.getvalue()


@pytest.fixture
def pictured(world, rita):
    """Photographs of one confusion, the hardest first."""
    Finding.objects.all().delete()
    world.findings.clear()
    Label.objects.filter(name="cat").update(name="functional")
    Label.objects.filter(name="dog").update(name="mild")
    Label.objects.filter(name="fox").update(name="severe")
    add_pictured(world, N)
    Standing.objects.update(label_from=0.5)
    return world


def add_pictured(world, n: int) -> None:
    folder = Path(elpv_dataset.__file__).parent / "data" / "images"
    paths = cycle(sorted(folder.iterdir())[:6])
    for finding, path in zip(world.add_findings(n), paths, strict=False):
        for size, side in SIZES.items():
            image = webp(path, min(side, 300))
            name = thumbnail_name(finding.digest, size)
            default_storage.save(name, ContentFile(image))


@pytest.fixture
def grid(pictured, sign_in, rita):
    """Return the grid of the data set, its first batch shown."""

    def open_grid(size: int = 25, wait: int = N, **options):
        page = sign_in(rita, reduced_motion="reduce", **options)
        page.goto(f"/datasets/animals/review/grid/?size={size}")
        page.wait_for_selector(".tile")
        page.wait_for_function(
            "n => document.querySelectorAll('.tile').length === n", arg=wait
        )
        return page

    return open_grid


def selected(page) -> int:
    return page.locator(".tile__check:checked").count()


def tiles(page) -> int:
    return page.locator(".tile:not([hidden])").count()


def said(page, text: str) -> None:
    page.wait_for_function(
        "text => document.getElementById('grid-live').textContent.includes(text)",
        arg=text,
    )


def test_keys_select_and_one_key_decides_and_one_undoes(grid):
    page = grid()
    page.keyboard.press("ArrowRight")  # to the first
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert selected(page) == 2
    page.keyboard.press("d")
    said(page, "2 dismissed.")
    assert tiles(page) == N - 2
    page.keyboard.press("a")
    assert selected(page) == N - 2
    page.keyboard.press("a")
    assert selected(page) == 0
    page.keyboard.press("u")
    said(page, "2 undone.")
    assert (tiles(page), selected(page)) == (N, 2)
    assert not Review.objects.standing().exists()
    assert page.problems == []


def test_a_click_a_range_and_a_box_select(grid):
    page = grid()
    tile = page.locator(".tile__image")
    tile.nth(1).click()
    tile.nth(4).click(modifiers=["Shift"])
    assert selected(page) == 4
    tile.nth(2).click()
    assert selected(page) == 3
    first, last = tile.nth(7).bounding_box(), tile.nth(9).bounding_box()
    page.mouse.move(first["x"] + 20, first["y"] + 20)
    page.mouse.down()
    page.mouse.move(last["x"] + 40, last["y"] + 60, steps=5)
    page.mouse.up()
    assert selected(page) == 3  # the box alone
    assert page.locator(".tiles-box").count() == 0
    tile.nth(0).click()
    assert selected(page) == 4


def test_relabel_takes_the_class_that_is_typed(grid, pictured):
    page = grid()
    page.locator(".tile__image").nth(0).click()
    page.keyboard.press("r")
    box = page.locator(".combobox input")
    assert box.input_value() == "mild"  # what the model says is offered
    page.keyboard.type("sev")
    page.keyboard.press("Enter")
    said(page, "1 relabelled.")
    review = Review.objects.get()
    assert review.new_label.name == "severe"
    assert tiles(page) == N - 1


def test_causes_a_reason_and_a_note_go_with_the_verdict(grid):
    page = grid()
    page.keyboard.press("a")
    page.keyboard.press("h")  # cause: blur
    page.keyboard.press("n")
    page.keyboard.type("out of focus")
    page.keyboard.press("Escape")
    page.select_option("[name=reason]", "unreadable")
    page.click("text=Dismiss")
    said(page, f"{N} dismissed.")
    review = Review.objects.first()
    assert (review.causes, review.note, review.reason) == (
        ["blur"],
        "out of focus",
        "unreadable",
    )
    assert page.locator("#grid-empty").is_visible()


def test_dismissing_presets_the_reason_that_the_desk_does(grid):
    page = grid()
    page.locator(".tile__image").nth(0).click()
    page.keyboard.press("d")
    said(page, "1 dismissed.")
    page.select_option("[name=reason]", "unreadable")
    for _ in range(2):  # the one last chosen stays
        page.locator(".tile__image:visible").nth(0).click()
        page.keyboard.press("d")
        said(page, "1 dismissed.")
        page.wait_for_function("() => !window.hardmine.outbox.entries().length")
    reasons = Review.objects.order_by("id").values_list("reason", flat=True)
    assert list(reasons) == ["ambiguous", "unreadable", "unreadable"]
    assert page.evaluate("sessionStorage.getItem('hardmine.reason')") == "unreadable"


def test_nothing_selected_is_said_until_shift_and_arrows_select(grid):
    page = grid()
    page.keyboard.press("c")
    said(page, "Nothing is selected.")
    assert not Review.objects.exists()
    page.keyboard.press("a")
    assert page.locator("#grid-live").inner_text() == ""  # true no longer
    page.keyboard.press("a")
    assert selected(page) == 0
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert selected(page) == 3


def test_the_next_batch_follows_the_last_verdict(grid, pictured):
    add_pictured(pictured, 24 - N)
    page = grid(size=10, wait=10)
    page.keyboard.press("a")
    page.keyboard.press("s")
    said(page, "10 skipped")
    assert tiles(page) == 10
    page.keyboard.press("a")
    page.keyboard.press("c")
    said(page, "10 confirmed.")
    assert tiles(page) == 4
    assert page.locator("#grid-more").is_hidden()


def test_what_is_refused_stays_with_its_reason(grid, pictured, lena):
    page = grid()
    Claim.objects.filter(finding=pictured.findings[0]).delete()  # a lead freed it
    decide(finding=pictured.findings[0], by=lena, verdict=Verdict.CONFIRM)
    page.keyboard.press("a")
    page.keyboard.press("d")
    said(page, "1 refused")
    assert tiles(page) == 1
    assert "lena gave the verdict confirm" in page.locator(".tile__why").inner_text()
    page.keyboard.press("a")
    assert selected(page) == 0


def test_two_people_never_have_one_finding(grid, sign_in, lena, pictured):
    grid()
    page = sign_in(lena)
    page.goto("/datasets/animals/review/grid/?size=25")
    page.wait_for_selector("#grid-empty:visible")
    assert tiles(page) == 0
    assert Claim.objects.count() == N


def test_leaving_gives_back_what_is_held(grid):
    page = grid()
    assert Claim.objects.count() == N
    page.goto("/datasets/")
    page.wait_for_timeout(300)
    assert not Claim.objects.exists()


def test_what_waits_to_be_sent_stays_held(grid):
    page = grid()
    page.route("**/grid/decide/**", lambda route: route.abort())
    page.locator(".tile__image").nth(0).click()
    page.keyboard.press("d")
    page.wait_for_selector("#outbox >> text=kept in this browser")
    page.goto("/datasets/")
    page.wait_for_timeout(300)
    assert Claim.objects.count() == N


def test_the_list_of_keys_has_those_that_are_there(grid, rita):
    rita.keys = {"help": ";", "flag": ""}
    rita.save()
    page = grid()
    assert page.locator("#grid-help").inner_text().split() == ["Keys", ";"]
    page.keyboard.press(";")
    assert "flag" not in page.locator("#grid-keys").inner_text()


def test_offline_a_verdict_waits_and_is_sent_when_the_network_is_back(grid):
    page = grid()
    page.context.set_offline(True)
    page.locator(".tile__image").nth(0).click()
    page.keyboard.press("d")
    page.wait_for_selector("#outbox >> text=kept in this browser")
    page.keyboard.press("u")  # what was not sent yet needs no server
    said(page, "1 taken back before")
    assert (tiles(page), selected(page)) == (N, 1)
    page.keyboard.press("d")
    page.wait_for_selector("#outbox >> text=kept in this browser")
    page.keyboard.press("a")
    page.keyboard.press("c")
    page.wait_for_selector(f"#outbox >> text={N} verdicts wait for the network")
    assert not page.locator("#grid-empty").is_visible()
    assert not Review.objects.exists()
    page.context.set_offline(False)
    said(page, f"{N - 1} confirmed.")
    assert Review.objects.count() == N
    assert page.locator("#grid-none").is_visible()
    assert page.locator("#grid-more").is_hidden()
    assert page.locator("#outbox").inner_text() == ""


def test_z_enlarges_and_enter_opens_the_desk(grid, pictured):
    page = grid()
    page.keyboard.press("Home")
    page.keyboard.press("z")
    dialog = page.locator("#grid-large")
    assert dialog.is_visible()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("z")
    assert not dialog.is_visible()
    assert selected(page) == 1
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review/{pictured.findings[1].pk}/**")


def test_who_comes_back_from_the_desk_finds_the_selection(grid, pictured):
    page = grid()
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    third = pictured.findings[2].pk
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review/{third}/**")

    def here() -> int:
        at = "() => document.activeElement.closest('.tile')?.dataset.id"
        return int(page.wait_for_function(at).json_value())

    page.go_back()
    assert here() == third
    assert (tiles(page), selected(page)) == (N, 2)
    # Decided on the desk it is gone: the next one follows.
    follows = page.evaluate(
        "document.activeElement.closest('.tile').nextElementSibling.dataset.id"
    )
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review/{third}/**")
    assert press(page, "c") == third
    settle(page)
    page.go_back()
    assert here() == int(follows)
    assert (tiles(page), selected(page)) == (N - 1, 2)
    # A grid that is opened anew has nothing selected.
    page.goto("/datasets/animals/review/grid/?size=25")
    page.wait_for_selector(".tile")
    assert selected(page) == 0
    assert page.problems == []


def test_a_tap_selects_and_a_long_press_enlarges(grid):
    page = grid(width=390, height=844, has_touch=True, is_mobile=True)
    image = page.locator(".tile__image").first
    image.tap()
    assert selected(page) == 1
    spot = image.bounding_box()
    touch = {"x": spot["x"] + 30, "y": spot["y"] + 30}
    devtools = page.context.new_cdp_session(page)
    devtools.send(
        "Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [touch]}
    )
    page.wait_for_selector("#grid-large[open]")
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert selected(page) == 1


def test_without_javascript_the_form_does_the_same(pictured, sign_in, rita):
    page = sign_in(rita, java_script_enabled=False)
    page.goto("/datasets/animals/review/grid/?size=10")
    page.click("text=Show the next 10")
    assert tiles(page) == 10
    page.locator(".tile__check").nth(0).check(force=True)
    page.locator(".tile__check").nth(1).check(force=True)
    page.click("text=Confirm")
    assert "2 confirmed." in page.locator("#notices").inner_text()
    assert tiles(page) == 8
    page.click(".grid-bar >> text=Undo")
    assert "2 undone." in page.locator("#notices").inner_text()
    assert tiles(page) == 10


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1440, 900, "light"), (390, 844, "dark")]
)
def test_it_holds_up_and_axe_finds_nothing_serious(grid, width, height, scheme):
    page = grid(width=width, height=height, color_scheme=scheme)
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    assert problems_of(page) == []
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert over <= 0
    if KEPT:
        page.screenshot(path=f"{KEPT}/grid-{width}-{scheme}.png")
    page.keyboard.press("z")
    assert problems_of(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#grid-keys").is_visible()
    assert problems_of(page) == []
    assert page.problems == []
