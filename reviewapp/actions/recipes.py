"""Recipes of frozen fix sets: asked for, made once by a worker, kept."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.db import transaction
from django.utils import timezone

from mining.recipe import RecipeSettings
from mining.recipe_making import make_recipe
from reviewapp.exceptions import Refused, plain_message
from reviewapp.models import FixSet, Recipe
from reviewapp.models.events import record
from reviewapp.recipes import (
    easy_samples,
    origin_of,
    sources_of,
    summary_of,
    train_counts,
)

if TYPE_CHECKING:
    from reviewapp.models import User

logger = logging.getLogger(__name__)

State = Recipe.State
BEATS = 10  # blocks of a scan between two signs of life


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
    """Give recipes of dead workers back and return the ids to enqueue again.

    Those that wait longer than a lease are among them: their message may be lost.
    """
    lost = timezone.now() - timedelta(seconds=conf.SHARD_LEASE_SECONDS)
    running = Recipe.objects.filter(state=State.RUNNING)
    running.filter(heartbeat_at__lt=lost).update(state=State.QUEUED)
    waiting = Recipe.objects.filter(state=State.QUEUED, created_at__lt=lost)
    return list(waiting.order_by("pk").values_list("pk", flat=True))


def run_recipe(*, recipe: Recipe) -> Recipe:
    """Make a recipe and keep it, or why it could not be made.

    Does nothing unless the recipe is queued.
    """
    mine = _Hold(recipe)
    if mine.is_held:
        mine.end(_outcome(recipe, mine))
    recipe.refresh_from_db()
    return recipe


class _Hold:
    """A worker's hold on a recipe; who was given up must not write over a successor."""

    def __init__(self, recipe: Recipe) -> None:
        self._pk = recipe.pk
        self._last = timezone.now()
        self._beats = 0
        self.is_held = bool(
            Recipe.objects.filter(pk=recipe.pk, state=State.QUEUED).update(
                state=State.RUNNING, heartbeat_at=self._last
            )
        )

    def beat(self) -> None:
        """Say that the worker lives; call it often."""
        self._beats += 1
        if self._beats % BEATS == 0:
            now = timezone.now()
            self._update(heartbeat_at=now)
            self._last = now

    def end(self, columns: dict[str, Any]) -> None:
        """Write how it ended, if it is still this worker's."""
        self._update(**columns, finished_at=timezone.now())

    def _update(self, **columns: Any) -> None:
        held = Recipe.objects.filter(
            pk=self._pk, state=State.RUNNING, heartbeat_at=self._last
        )
        held.update(**columns)


def _outcome(recipe: Recipe, hold: _Hold) -> dict[str, Any]:
    """Return the columns that a run sets."""
    fix_set = FixSet.objects.select_related("dataset").get(pk=recipe.fix_set_id)
    try:
        settings = RecipeSettings(**recipe.settings)
        origin = origin_of(fix_set)
        rows = [item.as_row() for item in fix_set.items.iterator(chunk_size=2000)]
        held = [(item.as_row(), item.reason) for item in fix_set.held_aside.iterator()]
        easy = easy_samples(fix_set, origin, on_progress=hold.beat)
        made = make_recipe(
            rows,
            train_counts(fix_set.dataset),
            easy=easy if settings.easy_per_hard else (),
            held=held,
            sources=sources_of(fix_set, origin),
            settings=settings,
        )
        pairs = {row.sample_key: (row.label, row.predicted) for row in rows}
        return {
            "state": State.DONE,
            "message": "",
            "digest": made.digest,
            "summary": summary_of(made, pairs),
            "content": made.to_json(),
        }
    except Exception as error:
        logger.exception("%s failed", recipe)
        return {"state": State.FAILED, "message": plain_message(error)}
