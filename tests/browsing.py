"""Chromium, driven by Playwright, against the live server."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.dispatch import receiver
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
    "SpareRendererForSitePerProcess",
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
SERVING = "process_request_thread"  # in the names of the server's threads
KEPT = 4  # contexts; each has up to six connections to the server, which has as many


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


@pytest.fixture(scope="session")
def idle_contexts(chromium: Any, django_db_setup: None) -> Iterator[list[Any]]:
    """Give the contexts that no test uses, the one last used at the end.

    One with a window, a cache and connections takes more time to make than many a test.
    """
    contexts: list[Any] = []
    yield contexts
    for context in contexts:
        context.close()
    for thread in threading.enumerate():  # of the server; each has a connection
        if SERVING in thread.name:
            thread.join(10)


@pytest.fixture
def sign_in(
    chromium: Any, live_server: Any, idle_contexts: list[Any]
) -> Iterator[Callable[..., Any]]:
    """Return a page of somebody who is signed in, who shares nothing with another."""
    taken = []

    def sign_in(
        user: Any, *, width: int = 1440, height: int = 900, **options: Any
    ) -> Any:
        options |= {"viewport": {"width": width, "height": height}}
        context = _idle(idle_contexts, options)
        if context is None:
            context = chromium.new_context(base_url=live_server.url, **options)
            context.options = options
            context.on("close", _note_closed)
        taken.append(context)
        become(context, user, live_server.url)
        return _watched(_empty_page(context, live_server.url))

    yield sign_in
    for context in taken:
        _leave(context)
    idle_contexts += [context for context in taken if context.options]
    for context in idle_contexts[:-KEPT]:
        context.close()
    del idle_contexts[:-KEPT]
    _wait_for_requests()


def _idle(contexts: list[Any], options: dict[str, Any]) -> Any:
    for context in reversed(contexts):
        if context.options == options:
            contexts.remove(context)
            return context
    return None


def _note_closed(context: Any) -> None:
    context.options = None


def _empty_page(context: Any, url: str) -> Any:
    """Return a page of a context; what pages kept there before is forgotten."""
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    kept = {"origin": url, "storageTypes": "local_storage"}
    devtools.send("Storage.clearDataForOrigin", kept)
    devtools.detach()
    return page


def become(context: Any, user: Any, url: str) -> None:
    """Give a context the session of somebody who has signed in."""
    client = Client()
    client.force_login(user, backend="reviewapp.sessions.People")
    session = client.cookies[settings.SESSION_COOKIE_NAME]
    cookie = {"name": session.key, "value": session.value, "url": url}
    context.add_cookies([cookie])


def _leave(context: Any) -> None:
    """Close the pages of a context and undo what was done to it, unless it is closed."""
    if context.options is None:
        return
    context.clear_cookies()  # first: what a page sends as it goes is nobody's
    context.unroute_all()
    for page in context.pages:
        page.close()
    context.set_offline(False)


def _watched(page: Any) -> Any:
    """Note what a page complains of and which requests are under way."""
    page.set_default_timeout(15_000)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "console",
        lambda message: message.type == "error" and page.problems.append(message.text),
    )
    page.requested = set()
    page.on("request", lambda request: page.requested.add(request))
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda request: page.requested.discard(request))
    return page


# The server's threads that are at work: one that has answered stays, and waits for more.
ANSWERING: set[int] = set()
ANSWERED = threading.Condition()


@receiver(request_started)
def _begin(**_about: Any) -> None:
    if SERVING in threading.current_thread().name:
        with ANSWERED:
            ANSWERING.add(threading.get_ident())


@receiver(request_finished)
def _end(**_about: Any) -> None:
    with ANSWERED:
        ANSWERING.discard(threading.get_ident())
        ANSWERED.notify_all()


def _wait_for_requests() -> None:
    """Wait for the answers to pages that were closed: the database is emptied next."""
    with ANSWERED:
        ANSWERED.wait_for(lambda: not ANSWERING, timeout=10)
        ANSWERING.clear()  # one that hangs is waited for once
