"""What came of a training run: before, after and a control; facts, written by a worker."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from reviewapp.models.datasets import Dataset
from reviewapp.models.training import TrainingRun


class ReportQuerySet(models.QuerySet["Report"]):
    """Vocabulary for reports."""

    def for_dataset(self, dataset: Dataset) -> ReportQuerySet:
        """Keep the reports of one data set's training runs."""
        return self.filter(run__dataset=dataset)

    def idle(self) -> ReportQuerySet:
        """Leave out those that wait or are being made."""
        return self.exclude(state__in=Report.ACTIVE)

    def newest_first(self) -> ReportQuerySet:
        """Order by the run, the latest first."""
        return self.order_by("-run_id")


class Report(models.Model):
    """The proof of one training run, made from the artefacts of its scans.

    What people decide later does not change it: it is made again when asked for.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    ACTIVE = (State.QUEUED, State.RUNNING)

    run = models.OneToOneField(TrainingRun, models.CASCADE, related_name="report")
    state = models.CharField(max_length=7, choices=State, default=State.QUEUED)
    figures: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="The numbers, as `reviewapp.reporting` says"
    )
    message = models.TextField(blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    requested_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = ReportQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "done", "failed"]),
                name="report_state_known",
            ),
        ]
        indexes = [
            # The sweep for lost work.
            models.Index(
                fields=["requested_at"],
                name="report_active",
                condition=Q(state__in=["queued", "running"]),
            ),
        ]

    def __str__(self) -> str:
        return f"report of training run {self.run_id}"

    @property
    def is_active(self) -> bool:
        """Whether it still waits or is being made."""
        return self.state in self.ACTIVE
