"""Whether pages hold up: at two sizes and in two schemes nothing overflows or complains.

With HARDMINE_SCREENSHOTS=folder pictures are kept there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from reviewapp.models import User
from tests.axe import problems_of
from tests.browser.desks import rest

SIZES = {"1440": (1440, 900), "390": (390, 844)}
VIEWS = [("1440", "light"), ("1440", "dark"), ("390", "dark"), ("390", "light")]
EXAMINED = VIEWS[0], VIEWS[2]
SPILT = """() => [
  document.documentElement.scrollWidth - innerWidth,
  [...document.querySelectorAll("td.actions")].filter(
    (cell) => cell.getBoundingClientRect().right > innerWidth).length,
]"""


def problems_at_all_sizes(
    sign_in: Callable[..., Any],
    user: User,
    pages: Mapping[str, str],
    *,
    axe: bool = False,
    pictured: Collection[str] = (),
    whole: bool = True,
) -> list[str]:
    """Return what is wrong with pages, each looked at in all of `VIEWS`.

    A page is loaded wide and light. One with charts, which scripts lay out by the room
    and in the colours that they find, is loaded narrow and dark as well; style sheets
    do not remember how a page was loaded.

    Axe looks at each size once and in each scheme once: sizes change no colours, and the
    colours of both schemes are the same pairs, whose contrast is computed elsewhere.

    Args:
        sign_in: The fixture.
        user: Who looks.
        pages: Name -> address.
        axe: Whether axe looks at them as well.
        pictured: Names of the pages whose pictures are kept, if any are.
        whole: Whether a picture has the whole page, not what is seen first.
    """
    wrong = []
    # A page like any other's: its context has compiled the scripts already.
    page = sign_in(user)
    page.emulate_media(color_scheme=VIEWS[-1][1], reduced_motion="reduce")
    for name, url in pages.items():
        for view, last in zip(VIEWS, [VIEWS[-1], *VIEWS], strict=False):
            _turn(page, view, last)
            if view == VIEWS[0] or (view in EXAMINED and page.query_selector(".chart")):
                assert page.goto(url).status == 200, url
            where = "-".join([name, *view])
            found = _problems(page, axe=axe and view in EXAMINED) + page.problems
            page.problems.clear()
            wrong += [f"{where}: {what}" for what in found]
            if name in pictured:
                _keep_picture(page, where, whole=whole)
    page.close()
    return wrong


def _turn(page: Any, view: tuple[str, str], last: tuple[str, str]) -> None:
    """Show the page in a view after the last one: only what differs costs anything."""
    (size, scheme), (last_size, last_scheme) = view, last
    if size != last_size:
        width, height = SIZES[size]
        page.set_viewport_size({"width": width, "height": height})
    if scheme != last_scheme:
        page.emulate_media(color_scheme=scheme)


def _problems(page: Any, *, axe: bool) -> list[str]:
    wrong = problems_of(page) if axe else []
    wider, hidden = page.evaluate(SPILT)
    if wider > 0:
        wrong.append(f"{wider} px too wide")
    if hidden > 0:
        wrong.append(f"{hidden} actions hidden")
    return wrong


def _keep_picture(page: Any, name: str, *, whole: bool) -> None:
    if folder := os.environ.get("HARDMINE_SCREENSHOTS"):
        rest(page)
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=whole)
