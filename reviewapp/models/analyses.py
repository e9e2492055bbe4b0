"""What a finished scan says of thresholds and of slices; facts, written by a worker."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q

from reviewapp.models.datasets import Dataset
from reviewapp.models.makings import Making, MakingQuerySet
from reviewapp.models.scans import Scan


class AnalysisQuerySet(MakingQuerySet["Analysis"]):
    """Vocabulary for analyses."""

    def for_dataset(self, dataset: Dataset) -> AnalysisQuerySet:
        """Keep the analyses of one data set's scans."""
        return self.filter(scan__dataset=dataset)

    def lean(self) -> AnalysisQuerySet:
        """Load no figures and no counts: for a list."""
        return self.select_related("requested_by").defer("figures", "counts")


class Analysis(Making):
    """One question about a finished scan, answered once from its artefact."""

    class What(models.TextChoices):
        THRESHOLDS = "thresholds", "thresholds"
        SLICES = "slices", "slices"

    KEPT = "The scan is kept, and so is what was found before."

    scan = models.ForeignKey(Scan, models.CASCADE, related_name="analyses")
    what = models.CharField(max_length=10, choices=What)
    figures: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="The numbers, as `reviewapp.analysing` says"
    )
    counts = models.BinaryField(
        default=bytes, help_text="Of thresholds: the bytes of a `mining.tally.Tally`"
    )
    requested_at = models.DateTimeField()

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
