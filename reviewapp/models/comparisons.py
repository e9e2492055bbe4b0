"""Comparisons of two scans, and what they found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import F, Q

from reviewapp.models.datasets import Dataset
from reviewapp.models.makings import Making, MakingQuerySet
from reviewapp.models.scans import Scan

if TYPE_CHECKING:
    from reviewapp.models.people import User

_HEAVY_OF_SCAN = (
    "settings",
    "classes",
    "model_version__checkpoint",
    "model_version__classes",
    "model_version__preprocessing",
)


class ComparisonQuerySet(MakingQuerySet["Comparison"]):
    """Vocabulary for comparisons."""

    def visible_to(self, user: User) -> ComparisonQuerySet:
        """Keep the comparisons of data sets that the person may see."""
        return self.filter(baseline__dataset__in=Dataset.objects.visible_to(user))

    def for_dataset(self, dataset: Dataset) -> ComparisonQuerySet:
        """Keep the comparisons of one data set's scans."""
        return self.filter(baseline__dataset=dataset)

    def of(self, *, baseline: Scan, candidate: Scan) -> ComparisonQuerySet:
        """Keep those of two scans, this way round."""
        return self.filter(baseline=baseline, candidate=candidate)

    def scored(self, *, labels: str, common: bool) -> ComparisonQuerySet:
        """Keep those with these labels, of all samples or of the common ones."""
        return self.filter(labels=labels, common=common)

    def newest_first(self) -> ComparisonQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")

    def lean(self) -> ComparisonQuerySet:
        """Load the scans' names in the same query and no details: for a list."""
        sides = ("baseline", "candidate")
        return self.select_related(
            *(f"{side}__model_version__registered_model" for side in sides),
            "requested_by",
        ).defer(
            "details", *(f"{side}__{name}" for side in sides for name in _HEAVY_OF_SCAN)
        )


class Comparison(Making):
    """One scan against another on the same samples; facts, written by a worker.

    What people decide later does not change them: they are made again when asked for.
    """

    class State(models.TextChoices):  # one more
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        REFUSED = "refused", "refused"  # the scans are not of the same samples
        FAILED = "failed", "failed"

    class Labels(models.TextChoices):
        CORRECTED = "corrected", "corrected labels"
        ORIGINAL = "original", "original labels"

    KEPT = "The scans are kept, and so is what was found before."

    baseline = models.ForeignKey(Scan, models.CASCADE, related_name="+")
    candidate = models.ForeignKey(Scan, models.CASCADE, related_name="+")
    labels = models.CharField(max_length=9, choices=Labels, default=Labels.CORRECTED)
    common = models.BooleanField(
        default=False, help_text="Samples that differ are left out, not refused"
    )
    state = models.CharField(max_length=7, choices=State, default=State.QUEUED)
    figures: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="The numbers, as `reviewapp.comparing.figures_of` says"
    )
    details: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="Images, classes and confusions, or what differs"
    )
    requested_at = models.DateTimeField()

    objects = ComparisonQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["baseline", "candidate", "labels", "common"],
                name="comparison_once",
            ),
            models.CheckConstraint(
                condition=~Q(baseline=F("candidate")), name="comparison_of_two_scans"
            ),
            models.CheckConstraint(
                condition=Q(labels__in=["corrected", "original"]),
                name="comparison_labels_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=["queued", "running", "done", "refused", "failed"]
                ),
                name="comparison_state_known",
            ),
        ]

    def __str__(self) -> str:
        return f"scan {self.candidate_id} against scan {self.baseline_id}"
