"""No verdict is lost: offline and back, reload, two tabs, refusals, signed out."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.sessions.models import Session

from reviewapp.models import Finding, Review, Verdict
from tests.browser.desks import on_desk, press, settle, start
from tests.browsing import become
from tests.reviewing import decide

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
WAITS = "#outbox .notice--warning"


def decided() -> list[int]:
    return list(
        Review.objects.filter(undo__isnull=True)
        .order_by("id")
        .values_list("finding_id", flat=True)
    )


def test_offline_and_back(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    page.context.set_offline(True)
    judged = [press(page, key) for key in ("c", "d", "c")]
    page.wait_for_selector(WAITS)
    assert page.inner_text(WAITS).startswith("3 verdicts wait for the network")
    assert Review.objects.count() == 0
    # What was not sent is taken back at once, without the network.
    press(page, "u")
    assert on_desk(page) == judged.pop()
    page.context.set_offline(False)
    settle(page)
    assert decided() == judged
    assert page.locator(WAITS).count() == 0
    judged.append(press(page, "c"))
    settle(page)
    assert decided() == judged


def test_whoever_judges_all_that_was_loaded_waits_and_goes_on(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    page.context.set_offline(True)
    for _ in range(4):
        press(page, "c")
    page.keyboard.press("c")
    page.wait_for_selector(".desk--waits")
    page.keyboard.press("c")  # there is nothing to judge
    page.context.set_offline(False)
    page.wait_for_selector("#desk[data-finding]")
    settle(page)
    assert len(decided()) == 5
    assert on_desk(page) not in decided()


def test_a_full_outbox_survives_a_reload(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    page.route("**/decide/**", lambda route: route.abort())
    judged = [press(page, "c"), press(page, "d")]
    page.wait_for_selector(WAITS)
    page.reload()
    page.wait_for_selector(WAITS)
    assert page.inner_text(WAITS).startswith("2 verdicts wait for the network")
    assert on_desk(page) not in judged
    page.unroute("**/decide/**")
    page.click("text=Try now")
    settle(page)
    assert decided() == judged


def test_two_tabs_send_each_verdict_once(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    page.context.route("**/decide/**", lambda route: route.abort())
    judged = [press(page, "c"), press(page, "c")]
    page.wait_for_selector(WAITS)
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector(WAITS)
    sent = []
    page.context.on(
        "response",
        lambda response: "/decide/" in response.url and sent.append(response.url),
    )
    page.context.unroute("**/decide/**")
    for tab in (page, other):
        tab.evaluate("window.dispatchEvent(new Event('online'))")
    settle(page)
    assert decided() == judged
    assert len(sent) == 2


def test_an_answer_that_is_lost_is_no_second_verdict(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    lost = []

    def lose(route):
        route.fetch()  # the server has recorded it
        lost.append(route.request.url)
        route.abort()

    page.route("**/decide/**", lose, times=1)
    judged = press(page, "c")
    page.wait_for_selector(WAITS)
    assert Review.objects.count() == 1
    page.click("text=Try now")
    settle(page)
    assert len(lost) == 1
    assert decided() == [judged]
    assert page.locator("#outbox .notice--error").count() == 0


def test_a_refusal_is_shown_with_the_way_back(pets, rita, lena, sign_in):
    page = sign_in(rita)
    start(page)
    first = Finding.objects.get(pk=on_desk(page))
    first.claim.delete()
    decide(finding=first, by=lena, verdict=Verdict.DISMISS)
    press(page, "c")
    refusal = page.wait_for_selector("#outbox .notice--error").inner_text()
    assert "Not recorded: confirm, cat → dog." in refusal
    assert "lena gave the verdict dismiss meanwhile." in refusal
    press(page, "c")  # the work goes on
    page.click("text=Look at it")
    page.wait_for_url(f"**/review/{first.pk}/")
    assert "This finding is dismissed" in page.inner_text("#desk")
    page.click("text=Put away")
    assert page.locator("#outbox .notice--error").count() == 0


def test_who_was_signed_out_loses_nothing(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    Session.objects.all().delete()
    judged = press(page, "c")
    page.wait_for_selector("text=You are signed out. 1 verdict waits")
    page.click("#outbox >> text=Sign in")
    sign_in_by_form(page, rita)
    page.wait_for_url("**/review/**")
    settle(page)
    assert decided() == [judged]


def sign_in_by_form(page: Any, user: Any) -> None:
    page.fill("input[name=username]", user.username)
    page.fill("input[name=password]", "correct horse battery")
    page.click("main button[type=submit]")


def test_who_signs_in_in_another_tab_has_nothing_to_send_again(pets, rita, sign_in):
    page = sign_in(rita)
    start(page)
    Session.objects.all().delete()
    judged = press(page, "c")
    page.wait_for_selector("text=You are signed out. 1 verdict waits")
    other = page.context.new_page()
    other.goto("/sign-in/")
    sign_in_by_form(other, rita)
    other.wait_for_url("**/")
    other.close()
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    settle(page)
    assert decided() == [judged]


def test_a_form_of_an_ended_session_leads_back_to_its_page(pets, rita, sign_in):
    page = sign_in(rita, java_script_enabled=False)
    desk = f"/datasets/animals/review/{pets.findings[0].pk}/?lane=model"
    page.goto(desk)
    Session.objects.all().delete()
    page.click("#desk [data-action=confirm]")
    assert "what you sent was not carried out" in page.inner_text("#notices")
    sign_in_by_form(page, rita)
    assert page.url.endswith(desk)
    page.click("#desk [data-action=confirm]")
    assert decided() == [pets.findings[0].pk]


def test_nobody_gives_the_verdicts_of_who_was_there_before(
    pets, rita, lena, sign_in, live_server
):
    page = sign_in(rita)
    start(page)
    page.route("**/decide/**", lambda route: route.abort())
    judged = press(page, "c")
    page.wait_for_selector(WAITS)
    # Somebody else signs in on this browser, in another tab.
    become(page.context, lena, live_server.url)
    page.unroute("**/decide/**")
    page.click("text=Try now")
    page.wait_for_selector("text=You are signed out. 1 verdict waits")
    assert decided() == []
    become(page.context, rita, live_server.url)
    page.reload()
    settle(page)
    assert decided() == [judged]
    assert Review.objects.get().reviewer == rita
