"""Fix sets and recipes in the browser: previewed while one chooses, frozen, looked at."""

from __future__ import annotations

import re

import pytest

from reviewapp.actions.recipes import run_recipe
from reviewapp.models import Finding, Recipe, Verdict
from tests.browser.holding import problems_at_all_sizes
from tests.recipes import give_outcomes
from tests.reviewing import decide

pytestmark = pytest.mark.browser
URL = "/datasets/animals/fixsets/"


@pytest.fixture
def judged(pets, rita, clean_cache):
    """Ten of the twelve cats are confirmed, two of them blurred, one is relabelled."""
    *confirmed, last, _ = pets.findings
    for n, finding in enumerate(confirmed):
        causes = ["blur", "pose"] if n < 2 else []
        decide(finding=finding, by=rita, verdict=Verdict.CONFIRM, causes=causes)
    decide(finding=last, by=rita, verdict=Verdict.RELABEL, new_label=pets.labels[2])
    Finding.objects.filter(pk=confirmed[3].pk).update(confidence=1.0)
    samples = list(pets.dataset.samples.exclude(findings__isnull=False).order_by("pk"))
    give_outcomes(pets.scan, samples)
    return pets


def test_from_a_live_preview_to_the_recipe(judged, alice, sign_in):
    page = sign_in(alice)
    page.goto(f"{URL}new/")
    assert "10 items" in page.inner_text("#preview")
    page.get_by_label("blur").check()
    page.wait_for_selector("#preview:has-text('2 items')")
    page.get_by_label("blur").uncheck()
    page.get_by_label("label in doubt").check()
    page.wait_for_selector("#preview:has-text('11 items')")
    page.fill("[name=per_confusion]", "3")
    page.wait_for_selector("#preview:has-text('the recipe takes the hardest 3')")
    page.fill("[name=name]", "cats")
    page.get_by_role("button", name="Freeze").click()
    page.wait_for_url(re.compile(r"/fixsets/\d+/$"))
    assert page.locator("#recipes .tag").inner_text() == "queued"
    run_recipe(recipe=Recipe.objects.get())
    page.wait_for_selector("#recipes .tag--done")
    page.get_by_role("link", name=re.compile(r"^Recipe \d+$")).click()
    page.wait_for_selector(".plan__pictures img")
    assert "about 60 more" in page.inner_text(".plan")
    assert page.problems == []


def test_the_pages_hold_up(judged, alice, sign_in, client_of):
    client_of(alice).post(f"{URL}new/", {"name": "cats, June"})
    recipe = run_recipe(recipe=Recipe.objects.get())
    pages = {
        "fixset-new": f"{URL}new/",
        "recipe": f"{URL}{recipe.fix_set_id}/recipes/{recipe.pk}/",
    }
    wrong = problems_at_all_sizes(sign_in, alice, pages, axe=True, pictured=pages)
    assert "\n".join(wrong) == ""
