"""Recipes in the browser: looked at, made again, downloaded."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reviewapp.actions.recipes import run_recipe
from reviewapp.models import Finding, Recipe, Verdict
from tests.reviewing import decide

URL = "/datasets/animals/fixsets/"


@pytest.fixture
def recipe(fix_set) -> Recipe:
    """A recipe of one confirmed cat -> dog and one image that was relabelled fox."""
    return run_recipe(recipe=fix_set.recipes.get())


@pytest.fixture
def page(recipe) -> str:
    return f"{URL}{recipe.fix_set_id}/recipes/{recipe.pk}/"


def test_the_page_says_what_to_train_with_and_what_to_collect(
    recipe, page, rita, client_of, reviewed
):
    response = client_of(rita).get(page)
    html = response.content.decode()
    assert response.context["recipe"].samples == {
        "hard": 1, "corrected": 1, "easy": 0, "drop": 0,
    }  # fmt: skip
    [line] = response.context["plan"]
    assert (line.label, line.predicted, line.count) == ("cat", "dog", 6)
    finding = reviewed.findings[0]
    assert [item.finding_id for item in line.like] == [finding.pk]
    assert f"{finding.pk}/{finding.digest}-grid.webp" in html
    assert "Samples of the test split: 2." in html
    assert "Cui et al." in html
    assert recipe.digest in html
    assert "Make again" not in html


def test_the_download_is_the_recipe_and_the_schema_is_published(
    recipe, page, rita, client_of
):
    client = client_of(rita)
    response = client.get(f"{page}recipe.json")
    name = f"first-{recipe.digest[:8]}.recipe.json"
    assert response["Content-Disposition"] == f'attachment; filename="{name}"'
    assert response.content.decode() == recipe.content
    schema = json.loads(client.get(f"{URL}recipe-schema/").content)
    assert schema["title"] == "Hardmine recipe"


def test_an_admin_makes_it_again_with_other_settings(
    recipe, page, alice, client_of, sent, django_capture_on_commit_callbacks
):
    client = client_of(alice)
    assert "Make again" in client.get(page).content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        response = client.post(
            f"{URL}{recipe.fix_set_id}/recipes/",
            {"beta": "0.5", "per_class": "", "seed": "7"},
        )
    made = Recipe.objects.latest("pk")
    assert response["Location"] == f"{URL}{recipe.fix_set_id}/recipes/{made.pk}/"
    assert sent == [("make_recipe", made.pk)]
    assert made.settings == recipe.settings | {"beta": 0.5, "seed": 7}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"beta": "1"}, "Beta of the class weights: Beta must be below 1."),
        ({"per_class": "0"}, "Hard samples of one class: Ensure this value is"),
        ({"gamma": "nan"}, "Gamma of the emphasis: Enter a number."),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(
    recipe, alice, client_of, data, said
):
    response = client_of(alice).post(f"{URL}{recipe.fix_set_id}/recipes/", data)
    assert response.status_code == 400
    assert said in response.content.decode()
    assert Recipe.objects.count() == 1


def test_a_reviewer_looks_but_makes_none(recipe, rita, lena, client_of):
    for person in (rita, lena):
        response = client_of(person).post(f"{URL}{recipe.fix_set_id}/recipes/", {})
        assert response.status_code == 403
    assert Recipe.objects.count() == 1


def test_a_recipe_of_another_set_is_not_found(recipe, page, alice, client_of):
    wrong = page.replace(f"/{recipe.fix_set_id}/", f"/{recipe.fix_set_id + 1}/", 1)
    assert client_of(alice).get(wrong).status_code == 404


def test_pages_ask_until_it_is_made_and_say_why_it_failed(fix_set, alice, client_of):
    client = client_of(alice)
    recipe = fix_set.recipes.get()
    url = f"{URL}{fix_set.pk}/"
    for asked, target in ((url, "recipes"), (f"{url}recipes/{recipe.pk}/", "recipe")):
        htmx = {"HX-Request": "true", "HX-Target": target}
        html = client.get(asked, headers=htmx).content.decode()
        assert 'hx-trigger="every 1s"' in html
        assert "<html" not in html
    refused = client.get(f"{url}recipes/{recipe.pk}/recipe.json")
    assert "There is no file to download" in refused.content.decode()
    Recipe.objects.update(state="failed", message="the disk is full")
    for asked, target in ((url, "recipes"), (f"{url}recipes/{recipe.pk}/", "recipe")):
        htmx = {"HX-Request": "true", "HX-Target": target}
        html = client.get(asked, headers=htmx).content.decode()
        assert "the disk is full" in html
        assert "hx-trigger" not in html


def test_a_lead_retrains_with_a_recipe_once_it_is_done(fix_set, lena, rita, client_of):
    made = fix_set.recipes.get()
    pages = [f"{URL}{fix_set.pk}/", f"{URL}{fix_set.pk}/recipes/{made.pk}/"]
    link = f'href="/datasets/animals/training/new/?recipe={made.pk}"'
    for page in pages:
        assert link not in client_of(lena).get(page).text
    run_recipe(recipe=made)
    for page in pages:
        assert link in client_of(lena).get(page).text
        assert link not in client_of(rita).get(page).text


def test_a_set_from_before_recipes_can_have_one(fix_set, alice, rita, client_of):
    Recipe.objects.all().delete()
    url = f"{URL}{fix_set.pk}/"
    assert "Make a recipe" in client_of(alice).get(url).content.decode()
    html = client_of(rita).get(url).content.decode()
    assert "No recipe yet" in html
    assert "Make a recipe" not in html
    client_of(alice).post(f"{url}recipes/")
    assert fix_set.recipes.get().is_active


def test_freezing_with_settings_and_guards_makes_that_recipe(
    reviewed, alice, client_of, sent, django_capture_on_commit_callbacks
):
    Finding.objects.filter(pk=reviewed.findings[0].pk).update(confidence=1.0)
    client = client_of(alice)
    preview = client.get(f"{URL}new/", {"per_class": "1"}).context["preview"]
    assert preview.held == {"label_suspect": 1}
    data = {"name": "all", "include": "label_suspect", "per_class": "1"}
    with django_capture_on_commit_callbacks(execute=True):
        client.post(f"{URL}new/", data)
    recipe = Recipe.objects.get()
    assert sent == [("make_recipe", recipe.pk)]
    assert (recipe.fix_set.size, recipe.settings["per_class"]) == (2, 1)
    html = client.get(f"{URL}{recipe.fix_set_id}/").content.decode()
    assert "<dt>Let in</dt>" in html
    assert "label in doubt" in html


def test_what_is_held_aside_is_listed_on_both_pages(reviewed, alice, client_of):
    Finding.objects.filter(pk=reviewed.findings[0].pk).update(confidence=1.0)
    client = client_of(alice)
    html = client.get(f"{URL}new/").content.decode()
    key = reviewed.findings[0].sample.key
    assert "Held aside by a guard" in html
    assert key in html
    response = client.post(f"{URL}new/", {"name": "some"}, follow=True)
    html = response.content.decode()
    assert "What it does not hold" in html
    assert key in html


def test_nothing_but_what_is_held_aside_is_refused(reviewed, alice, client_of):
    confirmed = reviewed.findings[0]
    Finding.objects.filter(pk=confirmed.pk).update(confidence=1.0)
    response = client_of(alice).post(
        f"{URL}new/", {"name": "x", "review_state": "confirmed"}
    )
    assert "1 were held aside" in response.content.decode()


def test_the_page_costs_the_same_queries_for_3_and_30_items(
    reviewed, fix_set, recipe, page, rita, alice, client_of
):
    client = client_of(rita)

    def queries(url: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        return len(captured)

    # Session, user, data set, recipe with its set, items of the plan, role.
    assert queries(page) == 6
    for finding in reviewed.add_findings(27):
        decide(finding=finding, by=rita, verdict=Verdict.CONFIRM)
    client_of(alice).post(f"{URL}new/", {"name": "large"})
    large = run_recipe(recipe=Recipe.objects.latest("pk"))
    assert large.samples["hard"] == 28
    assert queries(f"{URL}{large.fix_set_id}/recipes/{large.pk}/") == 6
