"""What a finished scan says of thresholds and of slices; facts, written by a worker."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from reviewapp.models.datasets import Dataset
from reviewapp.models.scans import Scan


class AnalysisQuerySet(models.QuerySet["Analysis"]):
    """Vocabulary for analyses."""

    def for_dataset(self, dataset: Dataset) -> AnalysisQuerySet:
        """Keep the analyses of one data set's scans."""
        return self.filter(scan__dataset=dataset)

    def idle(self) -> AnalysisQuerySet:
        """Leave out those that wait or are being made."""
        return self.exclude(state__in=Analysis.ACTIVE)

    def lean(self) -> AnalysisQuerySet:
        """Load no figures and no counts: for a list."""
        return self.select_related("requested_by").defer("figures", "counts")


class Analysis(models.Model):
    """One question about a finished scan, answered once from its artefact."""

    class What(models.TextChoices):
        THRESHOLDS = "thresholds", "thresholds"
        SLICES = "slices", "slices"

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    ACTIVE = (State.QUEUED, State.RUNNING)

    scan = models.ForeignKey(Scan, models.CASCADE, related_name="analyses")
    what = models.CharField(max_length=10, choices=What)
    state = models.CharField(max_length=7, choices=State, default=State.QUEUED)
    figures: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="The numbers, as `reviewapp.analysing` says"
    )
    counts = models.BinaryField(
        default=bytes, help_text="Of thresholds: the bytes of a `mining.tally.Tally`"
    )
    message = models.TextField(blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    requested_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = AnalysisQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["scan", "what"], name="analysis_once"),
            models.CheckConstraint(
                condition=Q(what__in=["thresholds", "slices"]),
                name="analysis_what_known",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "done", "failed"]),
                name="analysis_state_known",
            ),
        ]
        indexes = [
            # The sweep for lost work.
            models.Index(
                fields=["requested_at"],
                name="analysis_active",
                condition=Q(state__in=["queued", "running"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.what} of {self.scan}"

    @property
    def is_active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in self.ACTIVE
