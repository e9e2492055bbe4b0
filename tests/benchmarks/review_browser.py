"""Two hundred verdicts by keyboard in Chromium: how long until the next image is painted."""

# ruff: noqa: T201
from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.benchmarks.review_serving import Client, cookies_of
from tests.benchmarks.world_of_findings import SLUG
from tests.browsing import CHROMIUM, FLAGS

MEDIAN_MS, P95_MS, PAGE_KB = 80.0, 200.0, 120.0
KEYS = "cccccccdcccdccc"
SECONDS_TO_LOOK = 0.15  # between two keys: faster than anybody looks
REVIEWER = "reviewer30"

# From the event's own time stamp to the first frame after the one in which the next
# image, decoded, is in the page. Layout shifts are summed in two ways: as browsers
# report them, without those within 500 ms of a key, and all of them.
WATCH = """
window.painted = []; window.shifts = { reported: 0, all: 0 };
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    window.shifts.all += entry.value;
    if (!entry.hadRecentInput) window.shifts.reported += entry.value;
  }
}).observe({ type: "layout-shift", buffered: true });
const shown = () => document.querySelector("#desk[data-finding]")?.dataset.finding;
addEventListener("keydown", (event) => {
  const before = shown();
  const look = () => {
    const image = document.querySelector("#desk .desk__image");
    if (shown() === before || !image?.complete || !image.naturalWidth) {
      requestAnimationFrame(look);
      return;
    }
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.painted.push(performance.now() - event.timeStamp);
      channel.port2.postMessage(null);
    });
  };
  requestAnimationFrame(look);
}, true);
"""


def browse(host: str, *, verdicts: int) -> bool:
    """Judge by keyboard, print what it showed, and return whether it holds."""
    from playwright.sync_api import sync_playwright

    cookies = cookies_of(REVIEWER)
    kilobytes = page_size(Client(host, cookies))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(
            base_url=f"http://{host}", viewport={"width": 1440, "height": 900}
        )
        context.add_cookies(
            [
                {"name": name, "value": value, "url": f"http://{host}"}
                for name, value in cookies.items()
            ]
        )
        page = context.new_page()
        took, shifts = judge(page, verdicts)
        browser.close()
    return report(took, shifts, kilobytes)


def judge(page: Any, verdicts: int) -> tuple[list[float], dict[str, float]]:
    """Press one key after another; return the milliseconds and the layout shifts."""
    page.add_init_script(WATCH)
    page.goto(f"/datasets/{SLUG}/review/")
    page.click(f"form[action$='/datasets/{SLUG}/review/next/'] button[type=submit]")
    page.wait_for_selector("html.is-ready #desk[data-finding]")
    page.wait_for_timeout(1000)  # the next desks and their images come
    for n in range(verdicts):
        page.keyboard.press(KEYS[n % len(KEYS)])
        page.wait_for_function("n => window.painted.length > n", arg=n, timeout=20_000)
        page.wait_for_timeout(SECONDS_TO_LOOK * 1000)
    return page.evaluate("[window.painted, window.shifts]")


def page_size(client: Client) -> float:
    """Return the kB of the desk's HTML, CSS and JavaScript, compressed.

    Style sheets and scripts as they are sent; the page itself as a proxy compresses it.
    """
    fields = {"count": "1"}
    html = client.post(f"/datasets/{SLUG}/review/next/", fields)
    page = client.get(html.headers["Location"])
    linked = re.findall(
        r'<(?:script|link)[^>]*(?:src|href)="([^"]+\.(?:js|css))"', page.text
    )
    packed = {"Accept-Encoding": "gzip"}
    sizes = [len(client.get(address, **packed).body) for address in linked]
    return (len(gzip.compress(page.body, 6)) + sum(sizes)) / 1000


def report(took: Sequence[float], shifts: dict[str, float], kilobytes: float) -> bool:
    """Print the figures beside their targets."""
    median, p95 = (float(np.percentile(took, q)) for q in (50, 95))
    fast = median <= MEDIAN_MS and p95 <= P95_MS
    print(
        f"Chromium, {len(took)} verdicts by keyboard, key press to next image painted: "
        f"median {median:.0f} ms (at most {MEDIAN_MS:.0f}), p95 {p95:.0f} ms (at most "
        f"{P95_MS:.0f}){'' if fast else '   MISSED'}"
    )
    small, still = kilobytes <= PAGE_KB, shifts["reported"] == 0
    print(
        f"    HTML, CSS and JavaScript of the desk: {kilobytes:.0f} kB compressed (at most "
        f"{PAGE_KB:.0f}){'' if small else '   MISSED'}; layout shift "
        f"{shifts['reported']:.3f} (0){'' if still else '   MISSED'}, "
        f"{shifts['all']:.3f} with those after a key"
    )
    return fast and small and still
