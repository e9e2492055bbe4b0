"""Confusions: counts of one scan, and the ledger, a line for each over all scans."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q, Sum

from reviewapp.models.datasets import Dataset, Label
from reviewapp.models.pairs import PairIn
from reviewapp.models.registry import RegisteredModel
from reviewapp.models.scans import Scan

if TYPE_CHECKING:
    from reviewapp.models.people import User


class ConfusionCountQuerySet(models.QuerySet["ConfusionCount"]):
    """Vocabulary for the counts of finished scans."""

    def errors(self) -> ConfusionCountQuerySet:
        """Leave out the diagonal."""
        return self.exclude(true_label=F("predicted_label"))

    def of_pairs(self, pairs: Collection[tuple[int, int]]) -> ConfusionCountQuerySet:
        """Keep these pairs of (true, predicted) label ids."""
        return self.filter(PairIn(pairs))

    def with_names(self) -> ConfusionCountQuerySet:
        """Load both labels in the same query."""
        return self.select_related("true_label", "predicted_label")

    def top(self, n: int) -> ConfusionCountQuerySet:
        """Keep the n most frequent confusions, with names."""
        return self.errors().with_names().order_by("-count", "id")[:n]

    def support(self) -> dict[int, int]:
        """Return true label id -> samples with a prediction, right ones included."""
        rows = self.order_by().values_list("true_label").annotate(n=Sum("count"))
        return dict(rows)


class ConfusionCount(models.Model):
    """How often a finished scan saw (true, predicted); the diagonal included."""

    scan = models.ForeignKey(Scan, models.CASCADE, related_name="confusion_counts")
    true_label = models.ForeignKey(Label, models.CASCADE, related_name="+")
    predicted_label = models.ForeignKey(Label, models.CASCADE, related_name="+")
    count = models.PositiveIntegerField()

    objects = ConfusionCountQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["scan", "true_label", "predicted_label"],
                name="confusion_count_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.true_label} -> {self.predicted_label}: {self.count}"


class ConfusionQuerySet(models.QuerySet["Confusion"]):
    """Vocabulary for ledger lines."""

    def visible_to(self, user: User) -> ConfusionQuerySet:
        """Keep the confusions of data sets that the person may see."""
        return self.filter(dataset__in=Dataset.objects.visible_to(user))

    def for_dataset(self, dataset: Dataset) -> ConfusionQuerySet:
        """Keep the ledger of one data set."""
        return self.filter(dataset=dataset)

    def of_model(self, model: RegisteredModel) -> ConfusionQuerySet:
        """Keep the ledger of one registered model."""
        return self.filter(registered_model=model)

    def of_pairs(self, pairs: Collection[tuple[int, int]]) -> ConfusionQuerySet:
        """Keep these pairs of (true, predicted) label ids."""
        return self.filter(PairIn(pairs))

    def most_frequent_first(self) -> ConfusionQuerySet:
        """Order by the errors still seen, then by the errors ever seen."""
        return self.order_by("-present", "-peak", "-id")

    def with_names(self) -> ConfusionQuerySet:
        """Load the labels and the model in the same query."""
        return self.select_related(
            "true_label",
            "predicted_label",
            "registered_model",
            "first_scan",
            "last_scan",
        )


class Confusion(models.Model):
    """An ordered pair (true label -> predicted label) and where it stands."""

    class State(models.TextChoices):
        OPEN = "open", "open"
        IN_REVIEW = "in_review", "in review"
        FIX_EXPORTED = "fix_exported", "fix exported"
        IMPROVING = "improving", "improving"
        FIXED = "fixed", "fixed"
        REGRESSED = "regressed", "back"

    class Plan(models.TextChoices):
        COLLECT = "collect", "collect more"
        AUGMENT = "augment", "augment"
        REWEIGHT = "reweight", "reweight"
        FIX_LABELS = "fix_labels", "fix labels"
        CLASSES = "classes", "split or merge classes"
        BACKGROUND = "background", "change the background"
        NOTHING = "nothing", "nothing"

    # No indexes for them: every line that a scan saw is updated when it ends.
    dataset = models.ForeignKey(
        Dataset, models.CASCADE, db_index=False, related_name="confusions"
    )
    registered_model = models.ForeignKey(
        RegisteredModel, models.CASCADE, db_index=False, related_name="confusions"
    )
    true_label = models.ForeignKey(
        Label, models.PROTECT, db_index=False, related_name="+"
    )
    predicted_label = models.ForeignKey(
        Label, models.PROTECT, db_index=False, related_name="+"
    )
    state = models.CharField(max_length=12, choices=State, default=State.OPEN)
    present = models.PositiveIntegerField(help_text="Errors the last scans still saw")
    peak = models.PositiveIntegerField(help_text="Most errors one scan saw")
    first_scan = models.ForeignKey(
        Scan, models.SET_NULL, null=True, db_index=False, related_name="+"
    )
    last_scan = models.ForeignKey(
        Scan,
        models.SET_NULL,
        null=True,
        db_index=False,
        related_name="+",
        help_text="Last that saw it",
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        db_index=False,
        related_name="+",
        help_text="Who sees to it",
    )
    plan = models.CharField(
        max_length=10, choices=Plan, blank=True, help_text="Empty: none yet"
    )
    target = models.PositiveIntegerField(
        null=True, help_text="Most errors in a scan that would do"
    )
    claimed_at = models.DateTimeField(
        null=True,
        help_text="First export of a fix set that holds any of it, since it came back",
    )
    evidence: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict,
        help_text="What the last scan proved, as `mining.evidence.Evidence` has it",
    )
    updated_at = models.DateTimeField(auto_now=True)

    objects = ConfusionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "registered_model", "true_label", "predicted_label"],
                name="confusion_once",
            ),
            models.CheckConstraint(
                condition=~Q(true_label=F("predicted_label")),
                name="confusion_is_off_the_diagonal",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "open",
                        "in_review",
                        "fix_exported",
                        "improving",
                        "fixed",
                        "regressed",
                    ]
                ),
                name="confusion_state_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    plan__in=[
                        "",
                        "collect",
                        "augment",
                        "reweight",
                        "fix_labels",
                        "classes",
                        "background",
                        "nothing",
                    ]
                ),
                name="confusion_plan_known",
            ),
        ]
        indexes = [
            # The ledger and the confusions page, most frequent first.
            models.Index(
                fields=["dataset", "-present", "-peak", "-id"], name="confusion_ledger"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.true_label} → {self.predicted_label}"


class ConfusionEvent(models.Model):
    """One change of a ledger line's state, with the evidence; append-only."""

    confusion = models.ForeignKey(Confusion, models.CASCADE, related_name="events")
    scan = models.ForeignKey(Scan, models.SET_NULL, null=True, related_name="+")
    old_state = models.CharField(max_length=12, blank=True)
    new_state = models.CharField(max_length=12, choices=Confusion.State)
    evidence: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            # A ledger line's own story.
            models.Index(fields=["confusion", "-id"], name="confusion_event_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.confusion}: {self.old_state or 'new'} -> {self.new_state}"
