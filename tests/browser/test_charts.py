"""Charts show names as they are, though Plotly reads a kind of HTML."""

from __future__ import annotations

import pytest

from reviewapp.models import Label, RegisteredModel
from tests import factories

NAME = '<a href="https://evil.example/x">dog</a> &lt;b>'


@pytest.mark.browser
def test_a_name_in_a_chart_is_text_and_no_link(transactional_db, world, rita, sign_in):
    RegisteredModel.objects.update(name=NAME)
    Label.objects.filter(name="cat").update(name=NAME)
    factories.ScanFactory(
        model_version=world.scan.model_version, split="val", correct=6, errors=4
    )
    page = sign_in(rita)
    for address in ("", "history/"):
        page.goto(f"/datasets/animals/{address}")
        page.wait_for_selector(".legendtext")
        for name in page.locator(".legendtext").all_text_contents():
            assert name.startswith(NAME[:15])  # long ones are cut
        assert page.locator(".chart a").count() == 0
    assert page.problems == []


@pytest.mark.browser
def test_without_javascript_a_chart_is_a_sentence_and_no_box(transactional_db, sign_in):
    user = factories.UserFactory()
    scan = factories.ScanFactory(correct=7, errors=3)
    factories.MembershipFactory(user=user, dataset=scan.dataset)
    page = sign_in(user, java_script_enabled=False)
    page.goto(f"/datasets/{scan.dataset.slug}/")
    assert page.locator(".chart").count() == 1
    assert not page.locator(".chart").is_visible()
    # Text locators of Playwright skip noscript.
    assert page.locator("noscript p").is_visible()
