"""Recipes of frozen fix sets: asked for, made once by a worker, kept."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import transaction

from mining.recipe import RecipeSettings
from mining.recipe_making import make_recipe
from reviewapp.actions.makings import Hold, make, requeue_silent
from reviewapp.exceptions import Refused
from reviewapp.models import FixSet, Recipe
from reviewapp.models.events import record
from reviewapp.recipes import (
    doubted,
    easy_samples,
    origin_of,
    sources_of,
    summary_of,
    train_counts,
)

if TYPE_CHECKING:
    from reviewapp.models import User


def start_recipe(
    *, fix_set: FixSet, settings: RecipeSettings, by: User | None
) -> Recipe:
    """Queue a recipe of a frozen set; the caller enqueues `make_recipe`.

    One with the same settings that waits or is being made already is returned as it is.

    Raises:
        Refused: The set is not frozen.
    """
    if not fix_set.is_frozen:
        raise Refused(
            f"{fix_set} is not frozen yet. No recipe was made. Freeze it first."
        )
    with transaction.atomic():
        # Two requests take turns.
        FixSet.objects.select_for_update(no_key=True).get(pk=fix_set.pk)
        chosen = asdict(settings)
        going = fix_set.recipes.lean().active().filter(settings=chosen).first()
        if going:
            return going
        recipe = Recipe.objects.create(
            fix_set=fix_set, settings=chosen, requested_by=by
        )
        record("recipe asked for", recipe, dataset=fix_set.dataset, actor=by)
    return recipe


def requeue_silent_recipes() -> list[int]:
    """Give recipes of dead workers back and return the ids to enqueue again."""
    return requeue_silent(kind=Recipe)


def run_recipe(*, recipe: Recipe) -> Recipe:
    """Make a recipe and keep it, or why it could not be made.

    Does nothing unless the recipe is queued.
    """
    return make(making=recipe, outcome=partial(_outcome, recipe))


def _outcome(recipe: Recipe, hold: Hold) -> dict[str, Any]:
    """Return the columns that a run sets."""
    fix_set = FixSet.objects.select_related("dataset").get(pk=recipe.fix_set_id)
    settings = RecipeSettings(**recipe.settings)
    origin = origin_of(fix_set)
    rows = [item.as_row() for item in fix_set.items.iterator(chunk_size=2000)]
    held = [(item.as_row(), item.reason) for item in fix_set.held_aside.iterator()]
    easy = easy_samples(fix_set, origin, on_progress=hold.go_on)
    made = make_recipe(
        rows,
        train_counts(fix_set.dataset),
        easy=easy if settings.easy_per_hard else (),
        held=held,
        doubted=doubted(fix_set.dataset),
        sources=sources_of(fix_set, origin),
        settings=settings,
    )
    pairs = {row.sample_key: (row.label, row.predicted) for row in rows}
    return {
        "digest": made.digest,
        "summary": summary_of(made, pairs),
        "content": made.to_json(),
    }
