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
SCHEMES = ["light", "dark"]
WIDER = "document.documentElement.scrollWidth - window.innerWidth"
HIDDEN = """[...document.querySelectorAll('td.actions')].filter(
  (cell) => cell.getBoundingClientRect().right > innerWidth).length"""


def problems_at_all_sizes(
    sign_in: Callable[..., Any],
    user: User,
    pages: Mapping[str, str],
    *,
    axe: bool = False,
    pictured: Collection[str] = (),
    whole: bool = True,
) -> list[str]:
    """Return what is wrong with pages, each loaded at both sizes and in both schemes.

    The wide ones are loaded light and then turned dark, the narrow ones the other way.
    Axe looks at them as they are loaded: sizes change no colours, and the colours of both
    schemes are the same pairs, whose contrast is computed elsewhere.

    Args:
        sign_in: The fixture.
        user: Who looks.
        pages: Name -> address.
        axe: Whether axe looks at them as well.
        pictured: Names of the pages whose pictures are kept, if any are.
        whole: Whether a picture has the whole page, not what is seen first.
    """
    wrong = []
    for (size, (width, height)), scheme in zip(SIZES.items(), SCHEMES, strict=True):
        page = sign_in(
            user,
            width=width,
            height=height,
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        for name, url in pages.items():
            page.emulate_media(color_scheme=scheme)
            assert page.goto(url).status == 200, url
            for shown in (scheme, *(other for other in SCHEMES if other != scheme)):
                page.emulate_media(color_scheme=shown)
                where = f"{name}-{size}-{shown}"
                found = _problems(page, axe=axe and shown == scheme)
                wrong += [f"{where}: {what}" for what in found]
                if name in pictured:
                    _keep_picture(page, where, whole=whole)
        wrong += [f"{size} {scheme}: {problem}" for problem in page.problems]
        page.context.close()
    return wrong


def _problems(page: Any, *, axe: bool) -> list[str]:
    wrong = problems_of(page) if axe else []
    if (wider := page.evaluate(WIDER)) > 0:
        wrong.append(f"{wider} px too wide")
    if (hidden := page.evaluate(HIDDEN)) > 0:
        wrong.append(f"{hidden} actions hidden")
    return wrong


def _keep_picture(page: Any, name: str, *, whole: bool) -> None:
    if folder := os.environ.get("HARDMINE_SCREENSHOTS"):
        rest(page)
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=whole)
