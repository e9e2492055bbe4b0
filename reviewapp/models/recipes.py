"""Recipes: what a frozen fix set asks of training, made by a worker and kept."""

from __future__ import annotations

import json
from typing import Any, get_args

from django.db import models
from django.db.models import Q
from django.utils.text import slugify

from mining import recipe as mining_recipe
from mining.recipe import Role
from reviewapp.models.datasets import Dataset
from reviewapp.models.fixsets import FixSet
from reviewapp.models.makings import Making, MakingQuerySet


class RecipeQuerySet(MakingQuerySet["Recipe"]):
    """Vocabulary for recipes."""

    def for_dataset(self, dataset: Dataset) -> RecipeQuerySet:
        """Keep the recipes of one data set's fix sets."""
        return self.filter(fix_set__dataset=dataset)

    def done(self) -> RecipeQuerySet:
        """Keep those that can be trained with."""
        return self.filter(state=Recipe.State.DONE)

    def newest_first(self) -> RecipeQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")

    def lean(self) -> RecipeQuerySet:
        """Load the names in the same query, and not the JSON: it may have megabytes."""
        return self.select_related("fix_set", "requested_by").defer("content")


class Recipe(Making):
    """One recipe of a frozen fix set; done, it never changes, and a trigger sees to that."""

    ASKED_AT = "created_at"
    KEPT = "The fix set is kept."

    fix_set = models.ForeignKey(FixSet, models.CASCADE, related_name="recipes")
    settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        help_text="The fields of `mining.recipe.RecipeSettings`"
    )
    digest = models.CharField(max_length=64, blank=True)
    summary: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict,
        help_text="What pages show, as `reviewapp.recipes.summary_of` says",
    )
    content = models.TextField(
        blank=True, help_text="The JSON of `mining.recipe.Recipe`, in its one spelling"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RecipeQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "done", "failed"]),
                name="recipe_state_known",
            ),
            models.CheckConstraint(
                condition=Q(state="done", digest__regex=r"^[0-9a-f]{64}$")
                | (~Q(state="done") & Q(digest="")),
                name="recipe_done_has_digest",
            ),
        ]
        indexes = [
            # The sweep for lost work.
            models.Index(
                fields=["created_at"],
                name="recipe_active",
                condition=Q(state__in=["queued", "running"]),
            ),
        ]

    def __str__(self) -> str:
        return f"recipe {self.pk} of {self.fix_set}"

    @property
    def is_done(self) -> bool:
        """Whether it can be trained with."""
        return self.state == self.State.DONE

    @property
    def samples(self) -> dict[str, int | None]:
        """Return role -> how many; None until it is done."""
        known: dict[str, int] = self.summary.get("samples", {})
        return {role: known.get(role) for role in get_args(Role)}

    @property
    def warnings(self) -> list[str]:
        """Return what a person should know before training with it."""
        found: list[str] = self.summary.get("warnings", [])
        return found

    @property
    def file_name(self) -> str:
        """Return a file name of ASCII letters, digits, "-" and "." for its JSON."""
        stem = slugify(self.fix_set.name)[:60] or "fix-set"
        return f"{stem}-{self.digest[:8]}.recipe.json"

    def load(self) -> mining_recipe.Recipe:
        """Return it as trainers take it.

        Raises:
            ValueError: It is not done.
        """
        if not self.is_done:
            raise ValueError(f"{self} is {self.state}; wait until it is done")
        return mining_recipe.Recipe.from_dict(json.loads(self.content))
