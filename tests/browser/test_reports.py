"""The report's page holds up on a screen and on paper."""

from __future__ import annotations

import pytest

from reviewapp.actions.reports import run_report, start_report
from tests.browser.holding import problems_at_all_sizes
from tests.reporting import tell

pytestmark = pytest.mark.browser


@pytest.fixture
def page_of(version, labels, rita) -> str:
    told = tell(
        version,
        labels,
        rita,
        true="c" * 30 + "d" * 20,
        before="d" * 20 + "c" * 10 + "d" * 20,
        after="c" * 29 + "d" + "d" * 19 + "f",
        control="d" * 12 + "c" * 18 + "d" * 20,
        fixes="cd cd cd dc fc",
        causes=("pose", "similar_appearance"),
    )
    run_report(report=start_report(run=told.run, by=rita))
    return f"/datasets/animals/training/{told.run.pk}/report/"


def test_it_holds_up_at_every_size_and_on_paper(page_of, rita, sign_in) -> None:
    pages = {"report": page_of}
    assert problems_at_all_sizes(sign_in, rita, pages, axe=True, pictured=pages) == []

    page = sign_in(rita)
    page.emulate_media(color_scheme="dark")
    page.goto(page_of)
    page.emulate_media(media="print", color_scheme="dark")
    shown = page.evaluate(
        "(names) => names.map((name) => document.querySelector(name).checkVisibility())",
        [".claim", ".moves", ".topbar", ".toolbar", ".rail"],
    )
    assert shown == [True, True, False, False, False]
    style = "getComputedStyle(document.body)"
    colours = page.evaluate(f"[{style}.backgroundColor, {style}.color]")
    assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    assert page.problems == []
