"""Standings: what the findings of one confusion say together, always up to date."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from reviewapp.models.datasets import Dataset, Label
from reviewapp.models.findings import Finding
from reviewapp.models.registry import RegisteredModel


class StandingQuerySet(models.QuerySet["Standing"]):
    """Vocabulary for standings."""

    def for_dataset(self, dataset: Dataset) -> StandingQuerySet:
        """Keep one data set."""
        return self.filter(dataset=dataset)

    def of_model(self, model: RegisteredModel) -> StandingQuerySet:
        """Keep one registered model."""
        return self.filter(registered_model=model)

    def most_frequent_first(self) -> StandingQuerySet:
        """Order by the findings still seen, the most first."""
        return self.order_by("-present", "-id")


class Standing(models.Model):
    """How the findings of one confusion, or one class's near misses, stand.

    Statement triggers keep the counts, so that no page counts findings.
    """

    # No indexes for the labels: the pair is looked up by the unique constraint.
    dataset = models.ForeignKey(
        Dataset, models.CASCADE, db_index=False, related_name="standings"
    )
    registered_model = models.ForeignKey(
        RegisteredModel, models.CASCADE, related_name="standings"
    )
    true_label = models.ForeignKey(
        Label, models.CASCADE, db_index=False, related_name="+"
    )
    predicted_label = models.ForeignKey(
        Label, models.CASCADE, db_index=False, related_name="+"
    )
    kind = models.CharField(max_length=13, choices=Finding.Kind)
    present = models.IntegerField(default=0, help_text="Findings still seen")
    waiting = models.IntegerField(
        default=0, help_text="Of these, open: they wait for a verdict"
    )
    back = models.IntegerField(
        default=0, help_text="Of the waiting, those that were fixed before"
    )
    reviewed = models.IntegerField(
        default=0, help_text="Findings, seen or not, with a standing verdict"
    )
    label_from = models.FloatField(
        default=1.0,
        help_text="A confidence from here on puts an error into the lane label?, 0-1",
    )

    objects = StandingQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["registered_model", "true_label", "predicted_label"],
                name="standing_once",
            ),
            models.CheckConstraint(
                condition=(Q(kind="near_miss") & Q(true_label=F("predicted_label")))
                | (Q(kind="misclassified") & ~Q(true_label=F("predicted_label"))),
                name="standing_near_miss_is_right",
            ),
        ]
        indexes = [
            # The queue's confusions, most frequent first. What a verdict changes is not
            # in it: the row is updated in place.
            models.Index(
                fields=["dataset", "kind", "-present", "-id"], name="standing_queue"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.true_label} → {self.predicted_label}: {self.waiting} waiting"
