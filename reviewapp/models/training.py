"""Training runs: a model version trained again, with the recipe of a fix set or without."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.db import models
from django.db.models import Q
from django.utils import timezone

from mining import recipe as mining_recipe
from reviewapp.models.datasets import Dataset, Split
from reviewapp.models.recipes import Recipe
from reviewapp.models.registry import ModelVersion
from reviewapp.models.scans import Scan

if TYPE_CHECKING:
    from reviewapp.models.people import User


class TrainingRunQuerySet(models.QuerySet["TrainingRun"]):
    """Vocabulary for training runs."""

    def visible_to(self, user: User) -> TrainingRunQuerySet:
        """Keep the runs of data sets that the person may see."""
        return self.filter(dataset__in=Dataset.objects.visible_to(user))

    def for_dataset(self, dataset: Dataset) -> TrainingRunQuerySet:
        """Keep the runs of one data set."""
        return self.filter(dataset=dataset)

    def newest_first(self) -> TrainingRunQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")

    def with_names(self) -> TrainingRunQuerySet:
        """Load what a page names in the same query, and no JSON of recipes."""
        return self.select_related(
            "dataset",
            "parent__registered_model",
            "version__registered_model",
            "recipe__fix_set",
            "control_of",
            "verifying_scan",
            "requested_by",
        ).defer("content", "recipe__content", "control_of__content")

    def held(self, run: TrainingRun) -> TrainingRunQuerySet:
        """Keep the run if the claim that `run` was read under still stands."""
        return self.filter(
            pk=run.pk, state=TrainingRun.State.RUNNING, attempts=run.attempts
        )

    def taken(self, worker: str, at: datetime) -> TrainingRunQuerySet:
        """Keep those that a worker took at that moment and has."""
        running = TrainingRun.State.RUNNING
        return self.filter(state=running, worker=worker, claimed_at=at)

    def silent(self) -> TrainingRunQuerySet:
        """Keep running ones whose worker has not been heard of within the lease."""
        return self.filter(
            state=TrainingRun.State.RUNNING, heartbeat_at__lt=_a_lease_ago()
        )

    def waiting_long(self) -> TrainingRunQuerySet:
        """Keep those whose message should be with the broker for a lease or longer."""
        return self.filter(
            state=TrainingRun.State.QUEUED, requested_at__lt=_a_lease_ago()
        )

    def unverified(self) -> TrainingRunQuerySet:
        """Keep those that are done and whose version was not scanned yet."""
        return self.filter(
            state=TrainingRun.State.DONE,
            verifying_scan__isnull=True,
            verify_until__gt=timezone.now(),
        )


def _a_lease_ago() -> datetime:
    return timezone.now() - timedelta(seconds=conf.SHARD_LEASE_SECONDS)


class TrainingRun(models.Model):
    """One retraining of a model version, from its request to the scan that verifies it.

    Without a recipe it is a plain retraining, or the control of another run: as many
    samples as that one's recipe has, drawn at random.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    ACTIVE = (State.QUEUED, State.RUNNING)
    RESUMABLE = (State.FAILED, State.CANCELLED)

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
    settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        help_text="The fields of `mining.training.settings.TrainSettings`"
    )
    scan_split = models.CharField(
        max_length=5,
        choices=Split,
        blank=True,
        default=Split.TEST,
        help_text="What the verifying scan looks at; empty: every sample",
    )
    state = models.CharField(max_length=9, choices=State, default=State.QUEUED)
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
    message = models.TextField(blank=True)
    worker = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveIntegerField(
        default=0, help_text="Grows with each claim; a worker writes under its own"
    )
    losses = models.PositiveSmallIntegerField(
        default=0, help_text="Attempts whose worker went silent"
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
    requested_by = models.ForeignKey(
        conf.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    requested_at = models.DateTimeField(help_text="The last time it was queued")
    claimed_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = TrainingRunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=["queued", "running", "done", "failed", "cancelled"]
                ),
                name="training_state_known",
            ),
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
                condition=Q(state__in=["queued", "running"]),
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
    def is_active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in self.ACTIVE

    @property
    def is_done(self) -> bool:
        """Whether it ended with a version."""
        return self.state == self.State.DONE

    @property
    def is_resumable(self) -> bool:
        """Whether it ended before its end and can go on."""
        return self.state in self.RESUMABLE

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
