"""Recipes over the API: frozen with a set, asked for again, read."""

from __future__ import annotations

import json

import pytest

from mining.recipe import recipe_schema
from reviewapp.actions.recipes import run_recipe
from reviewapp.models import Finding, Recipe, Verdict
from tests.reviewing import decide

URL = "/api/datasets/animals/"


@pytest.fixture
def world(world, rita, labels):
    """Two cats confirmed, one of them in doubt, and one that is a fox."""
    one, two, three = world.findings
    decide(finding=one, by=rita, verdict=Verdict.CONFIRM, causes=["pose"])
    decide(finding=two, by=rita, verdict=Verdict.CONFIRM)
    decide(finding=three, by=rita, verdict=Verdict.RELABEL, new_label=labels[2])
    Finding.objects.filter(pk=two.pk).update(confidence=1.0)
    return world


def test_from_a_filter_to_the_recipe(world, alice, rita, api_of, labels):
    client = api_of(alice)
    pair = f"{labels[0].pk}:{labels[1].pk}"
    chosen = {
        "filter": {"confusions": [pair], "split": ["test", "train"], "lane": "label"},
        "recipe": {"per_class": 5},
    }
    preview = client.post(f"{URL}fix-sets/preview/", chosen).json()
    assert preview["size"] == 0
    assert preview["held"] == {"label_suspect": 1}
    assert preview["first_held"][0]["reason"] == "label_suspect"
    chosen["filter"].pop("lane")
    frozen = client.post(f"{URL}fix-sets/", chosen | {"name": "a"}).json()
    assert frozen["filter"] == {"confusions": ["cat → dog"], "split": ["test", "train"]}
    held = client.get(f"{URL}fix-sets/{frozen['id']}/held/").json()["results"]
    assert [(one["sample_key"], one["reason"]) for one in held] == [
        (world.findings[1].sample.key, "label_suspect")
    ]
    [found] = (
        api_of(rita).get(f"{URL}recipes/?fix_set={frozen['id']}").json()["results"]
    )
    assert (found["state"], found["settings"]["per_class"]) == ("queued", 5)
    run_recipe(recipe=Recipe.objects.get())
    done = api_of(rita).get(f"{URL}recipes/{found['id']}/").json()
    assert done["summary"]["samples"]["hard"] == 1
    content = api_of(rita).get(f"{URL}recipes/{found['id']}/content/")
    assert json.loads(content.content)["ignore"] == {
        world.findings[1].sample.key: "label in doubt",
        world.findings[2].sample.key: "label_wrong",
    }
    assert "content" not in done


def test_an_admin_asks_for_another_and_nobody_else(world, alice, lena, api_of):
    frozen = api_of(alice).post(f"{URL}fix-sets/", {"name": "a"}).json()
    body = {"fix_set": frozen["id"], "settings": {"gamma": 0, "seed": 3}}
    assert api_of(lena).post(f"{URL}recipes/", body).status_code == 403
    made = api_of(alice).post(f"{URL}recipes/", body)
    assert made.status_code == 202
    assert made.json()["settings"]["gamma"] == 0
    assert Recipe.objects.count() == 2
    states = api_of(alice).get(f"{URL}recipes/?state=done").json()["results"]
    assert states == []


@pytest.mark.parametrize(
    ("route", "body", "said"),
    [
        ("recipes/", {"fix_set": 1, "settings": {"beta": 1}}, "beta"),
        ("recipes/", {"fix_set": 1, "settings": {"alpha": 1}}, "alpha"),
        ("recipes/", {"settings": {}}, "fix_set"),
        ("fix-sets/preview/", {"include": ["everything"]}, "everything"),
        ("fix-sets/preview/", {"filter": {"confusions": ["cat:dog"]}}, "confusions"),
        ("fix-sets/preview/", {"filter": {"agreement": "most"}}, "most"),
        ("fix-sets/preview/", {"filter": {"reviewed_from": "May"}}, "reviewed_from"),
        ("fix-sets/preview/", {"recipe": {"per_class": 0}}, "per_class"),
    ],
)
def test_what_cannot_be_is_refused_by_name(world, alice, api_of, route, body, said):
    response = api_of(alice).post(f"{URL}{route}", body)
    assert response.status_code == 400
    assert said in response.content.decode()


def test_a_recipe_of_another_team_is_not_found(world, alice, charlie, api_of):
    frozen = api_of(alice).post(f"{URL}fix-sets/", {"name": "a"}).json()
    body = {"fix_set": frozen["id"]}
    other = api_of(charlie)
    assert other.post("/api/datasets/other/recipes/", body).status_code == 404
    assert other.get(f"{URL}recipes/").status_code == 404


def test_the_schema_is_published(world, rita, api_of):
    assert api_of(rita).get(f"{URL}recipes/schema/").json() == recipe_schema()


def test_one_that_is_not_done_has_no_content(world, alice, api_of):
    api_of(alice).post(f"{URL}fix-sets/", {"name": "a"})
    recipe = Recipe.objects.get()
    response = api_of(alice).get(f"{URL}recipes/{recipe.pk}/content/")
    assert response.status_code == 400
    assert "no file" in response.json()["detail"]
