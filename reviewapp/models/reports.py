"""What came of a training run: before, after and a control; facts, written by a worker."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from reviewapp.models.datasets import Dataset
from reviewapp.models.makings import Making, MakingQuerySet
from reviewapp.models.training import TrainingRun


class ReportQuerySet(MakingQuerySet["Report"]):
    """Vocabulary for reports."""

    def for_dataset(self, dataset: Dataset) -> ReportQuerySet:
        """Keep the reports of one data set's training runs."""
        return self.filter(run__dataset=dataset)

    def newest_first(self) -> ReportQuerySet:
        """Order by the run, the latest first."""
        return self.order_by("-run_id")


class Report(Making):
    """The proof of one training run, made from the artefacts of its scans.

    What people decide later does not change it: it is made again when asked for.
    """

    KEPT = "The scans are kept, and so is what the report said before."

    run = models.OneToOneField(TrainingRun, models.CASCADE, related_name="report")
    figures: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="The numbers, as `reviewapp.reporting` says"
    )
    requested_at = models.DateTimeField()

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
