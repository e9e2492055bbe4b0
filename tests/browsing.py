"""Chromium, driven by Playwright, against the live server."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

# Playwright's synchronous API keeps an event loop in the test's thread.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

# The shell alone has no windows, whose making takes more time than most tests.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
# Each window would load two pages for its address bar. The last list counts: the others
# are those of Playwright's that matter here.
WITHOUT = (
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "MediaRouter",
    "OptimizationHints",
    "PaintHolding",
)
FLAGS = [
    f"--disable-features={','.join(WITHOUT)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium; without one browser tests are skipped, or fail in CI."""
    if CHROMIUM is None:
        if os.environ.get("HARDMINE_REQUIRE_BROWSER"):
            pytest.fail("no Chromium found: apt-get install chromium")
        pytest.skip("no Chromium found: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def sign_in(chromium: Any, live_server: Any) -> Iterator[Callable[..., Any]]:
    """Return a page of somebody who is signed in."""
    contexts = []

    def sign_in(
        user: Any, *, width: int = 1440, height: int = 900, **options: Any
    ) -> Any:
        context = chromium.new_context(
            base_url=live_server.url,
            viewport={"width": width, "height": height},
            **options,
        )
        contexts.append(context)
        client = Client()
        client.force_login(user, backend="reviewapp.sessions.People")
        session = client.cookies[settings.SESSION_COOKIE_NAME]
        context.add_cookies(
            [{"name": session.key, "value": session.value, "url": live_server.url}]
        )
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on(
            "console",
            lambda message: (
                message.type == "error" and page.problems.append(message.text)
            ),
        )
        page.requested = set()
        page.on("request", lambda request: page.requested.add(request))
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda request: page.requested.discard(request))
        return page

    yield sign_in
    for context in contexts:
        context.close()
    _wait_for_requests()


def _wait_for_requests() -> None:
    """Wait for the answers to pages that were closed: the database is emptied next."""
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(10)
