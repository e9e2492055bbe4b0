"""Training runs: a model version trained again, with the recipe of a fix set or without."""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from mining import recipe as mining_recipe
from reviewapp.models.datasets import Dataset, Split
from reviewapp.models.recipes import Recipe
from reviewapp.models.registry import ModelVersion
from reviewapp.models.runs import STATE_KNOWN, UNFINISHED, Run, RunQuerySet
from reviewapp.models.scans import Scan


class TrainingRunQuerySet(RunQuerySet["TrainingRun"]):
    """Vocabulary for training runs."""

    def newest_first(self) -> TrainingRunQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")

    def unverified(self) -> TrainingRunQuerySet:
        """Keep those that are done and whose version was not scanned yet."""
        return self.filter(
            state=TrainingRun.State.DONE,
            verifying_scan__isnull=True,
            verify_until__gt=timezone.now(),
        )


class TrainingRun(Run):
    """One retraining of a model version, from its request to the scan that verifies it.

    Without a recipe it is a plain retraining, or the control of another run: as many
    samples as that one's recipe has, drawn at random.
    """

    ACT = "training"
    KEPT = "Its last whole epoch is kept"
    FOLDER = "training"
    NAMES = (
        "dataset",
        "parent__registered_model",
        "version__registered_model",
        "recipe__fix_set",
        "control_of",
        "verifying_scan",
        "requested_by",
    )
    LONG = ("content", "recipe__content", "control_of__content")  # JSON of recipes

    dataset = models.ForeignKey(
        Dataset, models.CASCADE, db_index=False, related_name="training_runs"
    )
    parent = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="training_runs"
    )
    recipe = models.ForeignKey(
        Recipe, models.RESTRICT, null=True, related_name="training_runs"
    )
    control_of = models.ForeignKey(
        "self", models.CASCADE, null=True, related_name="controls"
    )
    scan_split = models.CharField(
        max_length=5,
        choices=Split,
        blank=True,
        default=Split.TEST,
        help_text="What the verifying scan looks at; empty: every sample",
    )
    content = models.TextField(
        blank=True, help_text="Of a control: the recipe drawn for it, as JSON"
    )
    material = models.CharField(
        max_length=64, blank=True, help_text="Digest of the samples it trains with"
    )
    saved = models.TextField(
        blank=True, help_text="Name in the storage of what it can go on from"
    )
    epochs: models.JSONField[list[dict[str, Any]], list[dict[str, Any]]] = (
        models.JSONField(default=list, help_text="The figures of each epoch")
    )
    progress: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="`epoch`, samples `done` of `all` in it, `rate` in 1/s"
    )
    outcome: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="Of one that is done: best epoch, device, samples"
    )
    version = models.ForeignKey(
        ModelVersion,
        models.SET_NULL,
        null=True,
        related_name="made_by",
        help_text="What came of it; the same weights are the same version",
    )
    verifying_scan = models.ForeignKey(
        Scan, models.SET_NULL, null=True, related_name="+"
    )
    verify_until = models.DateTimeField(
        null=True, help_text="When to stop trying to start that scan"
    )

    objects = models.Manager.from_queryset(TrainingRunQuerySet)()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=STATE_KNOWN, name="training_state_known"),
            models.CheckConstraint(
                condition=Q(control_of__isnull=True) | Q(recipe__isnull=True),
                name="training_control_has_no_recipe",
            ),
            models.CheckConstraint(
                condition=Q(scan_split__in=Split.values), name="training_split_known"
            ),
        ]
        indexes = [
            # Lists of runs, the latest first.
            models.Index(fields=["dataset", "-id"], name="training_dataset_newest"),
            # The sweep for lost work.
            models.Index(
                fields=["requested_at"],
                name="training_active",
                condition=UNFINISHED,
            ),
            # The sweep for versions that were not scanned yet.
            models.Index(
                fields=["verify_until"],
                name="training_unverified",
                condition=Q(state="done", verifying_scan__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"training run {self.pk}"

    @property
    def is_done(self) -> bool:
        """Whether it ended with a version."""
        return self.state == self.State.DONE

    @property
    def is_control(self) -> bool:
        """Whether it shows what chance alone would bring, for another run."""
        return self.control_of_id is not None

    def source(self) -> Recipe | None:
        """Return the recipe that it follows, or is the control of; None: of none."""
        return self.control_of.recipe if self.control_of else self.recipe

    def load_recipe(self) -> mining_recipe.Recipe | None:
        """Return what it trains with; None: the train split as it is.

        Raises:
            ValueError: It is a control that was not drawn yet.
        """
        if self.is_control and not self.content:
            raise ValueError(f"{self} has not drawn its samples yet")
        if self.content:
            return mining_recipe.Recipe.from_dict(json.loads(self.content))
        return self.recipe.load() if self.recipe else None
