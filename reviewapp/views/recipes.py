"""Recipes: what a frozen fix set asks of training."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from mining.recipe import recipe_schema
from reviewapp.access import access_dataset, access_one, require_role
from reviewapp.actions.recipes import start_recipe
from reviewapp.downloads import send_recipe
from reviewapp.exceptions import Refused
from reviewapp.forms.recipes import RecipeForm
from reviewapp.models import Dataset, FixItem, FixSet, Recipe, Role
from reviewapp.models.people import role_on
from reviewapp.tasks import enqueue_recipe
from reviewapp.views.requests import UserRequest

LINES_SHOWN = 40  # of the collection plan
PICTURES_SHOWN = 12  # of a line
CLASSES_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of the collection plan with its pictures."""

    label: str
    predicted: str
    count: int
    like: list[FixItem]
    more: int


@require_GET
def detail(
    request: UserRequest, slug: str, fix_set_id: int, recipe_id: int
) -> HttpResponse:
    """Show a recipe: its samples by role, class weights, warnings and collection plan."""
    dataset = access_dataset(request.user, slug)
    recipe = _recipe(dataset, fix_set_id, recipe_id)
    classes = recipe.summary.get("by_class", [])
    role = role_on(request.user, dataset)
    context = {
        "dataset": dataset,
        "fix_set": recipe.fix_set,
        "recipe": recipe,
        "ignored": recipe.summary.get("ignored", 0),
        "sources": recipe.summary.get("sources", {}),
        "hints": recipe.summary.get("hints", {}),
        "classes": sorted(classes, key=lambda row: -row[1])[:CLASSES_SHOWN],
        "all_classes": len(classes),
        "plan": _plan(recipe),
        "form": RecipeForm(recipe.settings),
        "role": role,
        "may_make": role is Role.ADMIN,
    }
    template = "fixsets/recipe.html" + ("#recipe" if request.htmx else "")
    return render(request, template, context)


@require_POST
def make(request: UserRequest, slug: str, fix_set_id: int) -> HttpResponse:
    """Make another recipe of a frozen set, with the settings of the form."""
    dataset = access_dataset(request.user, slug)
    fix_set = access_one(FixSet.objects.for_dataset(dataset), pk=fix_set_id)
    require_role(request.user, dataset, Role.ADMIN)
    form = RecipeForm(request.POST)
    if not form.is_valid():
        said = " ".join(
            f"{form.fields[name].label}: {error}"
            for name, errors in form.errors.items()
            for error in errors
        )
        raise Refused(f"No recipe was made. {said}")
    recipe = start_recipe(fix_set=fix_set, settings=form.settings(), by=request.user)
    enqueue_recipe(recipe)
    messages.success(request, "The recipe is being made.")
    return redirect("recipe-detail", slug, fix_set.pk, recipe.pk)


@require_GET
def download(
    request: UserRequest, slug: str, fix_set_id: int, recipe_id: int
) -> HttpResponse:
    """Send the JSON of a recipe that is done."""
    dataset = access_dataset(request.user, slug)
    recipe = _recipe(dataset, fix_set_id, recipe_id)
    return send_recipe(recipe)


@require_GET
def schema(request: UserRequest, slug: str) -> HttpResponse:
    """Send the JSON Schema of recipes."""
    access_dataset(request.user, slug)
    name = "recipe.schema.json"
    answer = JsonResponse(recipe_schema(), json_dumps_params={"indent": 2})
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _recipe(dataset: Dataset, fix_set_id: int, recipe_id: int) -> Recipe:
    recipes = Recipe.objects.for_dataset(dataset).filter(fix_set=fix_set_id).lean()
    return access_one(recipes, pk=recipe_id)


def _plan(recipe: Recipe) -> list[Wanted]:
    """Return the first lines of the collection plan, with the items to show of each."""
    lines = recipe.summary.get("collection", [])[:LINES_SHOWN]
    keys = {key for line in lines for key in line["like"][:PICTURES_SHOWN]}
    items = recipe.fix_set.items.filter(finding__isnull=False, sample_key__in=keys)
    by_key = {item.sample_key: item for item in items}
    return [
        Wanted(
            label=line["label"],
            predicted=line["predicted"],
            count=line["count"],
            like=[
                by_key[key] for key in line["like"][:PICTURES_SHOWN] if key in by_key
            ],
            more=len(line["like"][PICTURES_SHOWN:]),
        )
        for line in lines
    ]
