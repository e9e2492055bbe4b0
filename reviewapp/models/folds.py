"""Out-of-fold runs: honest errors of the training split, from k models trained for it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from mining.training.folds import MAX_FOLDS
from reviewapp.models.datasets import Dataset
from reviewapp.models.imports import Import
from reviewapp.models.registry import ModelVersion
from reviewapp.models.scans import Scan

if TYPE_CHECKING:
    from reviewapp.models.people import User


class FoldRunQuerySet(models.QuerySet["FoldRun"]):
    """Vocabulary for out-of-fold runs."""

    def visible_to(self, user: User) -> FoldRunQuerySet:
        """Keep the runs of data sets that the person may see."""
        return self.filter(dataset__in=Dataset.objects.visible_to(user))

    def for_dataset(self, dataset: Dataset) -> FoldRunQuerySet:
        """Keep the runs of one data set."""
        return self.filter(dataset=dataset)

    def without_scan(self) -> FoldRunQuerySet:
        """Keep those that a list of scans does not show yet, the latest first."""
        return self.exclude(state=FoldRun.State.DONE).order_by("-id")

    def with_names(self) -> FoldRunQuerySet:
        """Load what a page names in the same query."""
        return self.select_related(
            "dataset", "parent__registered_model", "scan", "requested_by"
        )

    def held(self, run: FoldRun) -> FoldRunQuerySet:
        """Keep the run if the claim that `run` was read under still stands."""
        return self.filter(
            pk=run.pk, state=FoldRun.State.RUNNING, attempts=run.attempts
        )

    def taken(self, worker: str, at: datetime) -> FoldRunQuerySet:
        """Keep those that a worker took at that moment and has."""
        return self.filter(state=FoldRun.State.RUNNING, worker=worker, claimed_at=at)

    def silent(self) -> FoldRunQuerySet:
        """Keep running ones whose worker has not been heard of within the lease."""
        return self.filter(state=FoldRun.State.RUNNING, heartbeat_at__lt=_a_lease_ago())

    def waiting_long(self) -> FoldRunQuerySet:
        """Keep those whose message should be with the broker for a lease or longer."""
        return self.filter(state=FoldRun.State.QUEUED, requested_at__lt=_a_lease_ago())


def _a_lease_ago() -> datetime:
    return timezone.now() - timedelta(seconds=conf.SHARD_LEASE_SECONDS)


class FoldRun(models.Model):
    """One out-of-fold scan in the making: its models, and then its import."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    ACTIVE = (State.QUEUED, State.RUNNING)
    RESUMABLE = (State.FAILED, State.CANCELLED)

    dataset = models.ForeignKey(
        Dataset, models.CASCADE, db_index=False, related_name="fold_runs"
    )
    parent = models.ForeignKey(
        ModelVersion,
        models.CASCADE,
        related_name="fold_runs",
        help_text="Whose architecture and preprocessing the fold models have",
    )
    folds = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(2), MaxValueValidator(MAX_FOLDS)]
    )
    settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        help_text="The fields of `mining.training.settings.TrainSettings`"
    )
    state = models.CharField(max_length=9, choices=State, default=State.QUEUED)
    progress: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="`fold`, `epoch`, samples `done` of `all` in it"
    )
    notes: models.JSONField[list[str], list[str]] = models.JSONField(
        default=list, help_text="What a reader of its scan should know"
    )
    message = models.TextField(blank=True)
    worker = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveIntegerField(
        default=0, help_text="Grows with each claim; a worker writes under its own"
    )
    losses = models.PositiveSmallIntegerField(
        default=0, help_text="Attempts whose worker went silent"
    )
    job = models.ForeignKey(
        Import,
        models.SET_NULL,
        null=True,
        related_name="+",
        help_text="What records its predictions",
    )
    scan = models.OneToOneField(
        Scan, models.SET_NULL, null=True, related_name="fold_run"
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

    objects = FoldRunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=["queued", "running", "done", "failed", "cancelled"]
                ),
                name="foldrun_state_known",
            ),
            models.CheckConstraint(
                condition=Q(folds__gte=2, folds__lte=20), name="foldrun_folds_in_range"
            ),
        ]
        indexes = [
            # The list of scans, above those that are there.
            models.Index(fields=["dataset", "-id"], name="foldrun_dataset_newest"),
            # The sweep for lost work.
            models.Index(
                fields=["requested_at"],
                name="foldrun_active",
                condition=Q(state__in=["queued", "running"]),
            ),
        ]

    def __str__(self) -> str:
        return f"out-of-fold run {self.pk}"

    @property
    def is_active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in self.ACTIVE

    @property
    def is_resumable(self) -> bool:
        """Whether it ended before its end and can go on."""
        return self.state in self.RESUMABLE
