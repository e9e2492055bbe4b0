"""Standings: what the findings of one confusion say together, always up to date."""

from __future__ import annotations

from collections.abc import Collection

from django.db import models
from django.db.models import F, OuterRef, Q, Sum

from reviewapp.models.datasets import Dataset, Label
from reviewapp.models.findings import Finding
from reviewapp.models.pairs import PairIn
from reviewapp.models.registry import RegisteredModel


class StandingQuerySet(models.QuerySet["Standing"]):
    """Vocabulary for standings."""

    def for_dataset(self, dataset: Dataset) -> StandingQuerySet:
        """Keep one data set."""
        return self.filter(dataset=dataset)

    def of_row(self) -> StandingQuerySet:
        """Keep the confusion of the finding in the outer query."""
        names = ("registered_model", "true_label", "predicted_label")
        return self.filter(**{name: OuterRef(name) for name in names})

    def of_model(self, model: RegisteredModel) -> StandingQuerySet:
        """Keep one registered model."""
        return self.filter(registered_model=model)

    def of_findings(self, findings: Collection[Finding]) -> StandingQuerySet:
        """Keep the confusions of these findings, a few hundred at most."""
        chosen = Q(pk__in=[])
        for true, predicted in {
            (f.true_label_id, f.predicted_label_id) for f in findings
        }:
            chosen |= Q(true_label=true, predicted_label=predicted)
        return self.filter(chosen)

    def waiting(self) -> StandingQuerySet:
        """Keep the confusions in which something waits for a verdict."""
        return self.filter(waiting__gt=0)

    def of_pairs(self, pairs: Collection[tuple[int, int]]) -> StandingQuerySet:
        """Keep these pairs of (true, predicted) label ids."""
        return self.filter(PairIn(pairs))

    def waiting_by_kind(self) -> dict[tuple[int, str], int]:
        """Return (data set id, kind) -> findings that wait for a verdict."""
        rows = self.order_by().values_list("dataset_id", "kind")
        return {row[:2]: row[2] for row in rows.annotate(n=Sum("waiting"))}

    def most_frequent_first(self) -> StandingQuerySet:
        """Order by the findings still seen, the most first."""
        return self.order_by("-present", "-id")


class Standing(models.Model):
    """How the findings of one confusion, or one class's near misses, stand.

    Statement triggers (migration 0010) keep the counts, so that no page counts findings.
    A flag or a dispute is a standing verdict: such a finding is reviewed and does not
    wait in the queue.
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
    is_exported = models.BooleanField(
        default=False, help_text="Whether a frozen, exported fix set holds any of them"
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


class StandingChange(models.Model):
    """A change of a standing that is still to be added to it.

    Written when many confusions change at once, or when somebody else is changing the
    standing: a scan's workers never wait for each other. `fold_standings` adds it.
    """

    dataset = models.ForeignKey(
        Dataset, models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    registered_model = models.ForeignKey(
        RegisteredModel,
        models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    true_label = models.ForeignKey(
        Label, models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    predicted_label = models.ForeignKey(
        Label, models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    present = models.IntegerField()
    waiting = models.IntegerField()
    back = models.IntegerField()
    reviewed = models.IntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            # What is still to be added to the standings of some pairs.
            models.Index(
                fields=["registered_model", "true_label", "predicted_label"],
                name="standing_change_pair",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.true_label} → {self.predicted_label}: {self.waiting:+} waiting"
