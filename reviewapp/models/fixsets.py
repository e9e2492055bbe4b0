"""Fix sets: frozen findings that feed retraining, and their exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Count, F, Func, Q

from mining.fixset import FixRow
from reviewapp.models.datasets import Dataset, Sample
from reviewapp.models.findings import Finding
from reviewapp.models.reviews import Cause

if TYPE_CHECKING:
    from reviewapp.models.people import User


class FixSetQuerySet(models.QuerySet["FixSet"]):
    """Vocabulary for fix sets."""

    def visible_to(self, user: User) -> FixSetQuerySet:
        """Keep the fix sets of data sets that the person may see."""
        return self.filter(dataset__in=Dataset.objects.visible_to(user))

    def for_dataset(self, dataset: Dataset) -> FixSetQuerySet:
        """Keep the fix sets of one data set."""
        return self.filter(dataset=dataset)

    def with_names(self) -> FixSetQuerySet:
        """Load who made it in the same query."""
        return self.select_related("created_by")

    def newest_first(self) -> FixSetQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")


class FixSet(models.Model):
    """Confirmed and relabelled findings under a filter, frozen with a digest.

    A trigger in the database refuses every change of a frozen set and its items.
    """

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="fix_sets")
    name = models.CharField(max_length=100)
    filter: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict
    )
    size = models.PositiveIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    frozen_at = models.DateTimeField(null=True)
    stale_because = models.TextField(
        blank=True, help_text="Verdicts in it that were taken back, a line each"
    )

    objects = FixSetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "name"], name="fixset_name_once_per_dataset"
            ),
            models.CheckConstraint(
                condition=Q(frozen_at__isnull=True, digest="")
                | Q(frozen_at__isnull=False, digest__regex=r"^[0-9a-f]{64}$"),
                name="fixset_frozen_has_digest",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_frozen(self) -> bool:
        """Whether its content can no longer change."""
        return self.frozen_at is not None


class FixItemQuerySet(models.QuerySet["FixItem"]):
    """Vocabulary for the items of fix sets."""

    def count_by(self, field: str) -> dict[str, int]:
        """Return value of a field -> number of items, most frequent first."""
        rows = self.values_list(field).annotate(n=Count("id")).order_by("-n", field)
        return dict(rows)

    def count_by_cause(self) -> dict[str, int]:
        """Return cause -> number of items that name it, most frequent first."""
        return self.annotate(cause=Func(F("causes"), function="unnest")).count_by(
            "cause"
        )


class FixItem(models.Model):
    """One finding as it was when the set was frozen."""

    fix_set = models.ForeignKey(FixSet, models.CASCADE, related_name="items")
    finding = models.ForeignKey(Finding, models.SET_NULL, null=True)
    sample = models.ForeignKey(Sample, models.SET_NULL, null=True)
    sample_key = models.TextField()
    digest = models.CharField(max_length=64)
    split = models.CharField(max_length=5, blank=True)
    original_label = models.CharField(max_length=200)
    true_label = models.CharField(max_length=200)
    label = models.CharField(max_length=200, help_text="The label to train with")
    predicted = models.CharField(max_length=200)
    verdict = models.CharField(max_length=7)
    causes = ArrayField(models.CharField(max_length=20), default=list)
    p_true = models.FloatField()
    confidence = models.FloatField()
    reviewer = models.CharField(max_length=150)
    reviewed_at = models.DateTimeField()
    note = models.TextField(blank=True)

    objects = FixItemQuerySet.as_manager()

    class Meta:
        ordering = ["fix_set", "sample_key", "predicted"]
        constraints = [
            models.UniqueConstraint(
                fields=["fix_set", "sample_key", "true_label", "predicted"],
                name="fixitem_once",
            ),
        ]

    def __str__(self) -> str:
        return self.sample_key

    def cause_labels(self) -> list[str]:
        """Return the causes as people read them."""
        return [str(Cause(cause).label) for cause in self.causes]

    def as_row(self) -> FixRow:
        """Return the item as the exporters take it."""
        return FixRow(
            sample_key=self.sample_key,
            digest=self.digest,
            split=self.split,
            original_label=self.original_label,
            true_label=self.true_label,
            label=self.label,
            predicted=self.predicted,
            verdict="relabel" if self.verdict == "relabel" else "confirm",
            causes=tuple(self.causes),
            p_true=self.p_true,
            confidence=self.confidence,
            reviewer=self.reviewer,
            reviewed_at=self.reviewed_at.isoformat(),
            note=self.note,
        )


class ExportQuerySet(models.QuerySet["Export"]):
    """Vocabulary for exports."""

    def for_dataset(self, dataset: Dataset) -> ExportQuerySet:
        """Keep the exports of one data set's fix sets."""
        return self.filter(fix_set__dataset=dataset)

    def with_names(self) -> ExportQuerySet:
        """Load the fix set and the requester in the same query."""
        return self.select_related("fix_set", "requested_by")


class Export(models.Model):
    """One file made from a frozen fix set."""

    class Format(models.TextChoices):
        CSV = "csv", "CSV"
        JSONL = "jsonl", "JSON lines"
        ZIP = "zip", "ZIP, a folder per class"

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    fix_set = models.ForeignKey(FixSet, models.CASCADE, related_name="exports")
    format = models.CharField(max_length=5, choices=Format)
    state = models.CharField(max_length=7, choices=State, default=State.QUEUED)
    done = models.PositiveIntegerField(default=0, help_text="Items written so far")
    file = models.TextField(blank=True, help_text="Name in the storage")
    size = models.BigIntegerField(default=0, help_text="Bytes")
    sha256 = models.CharField(max_length=64, blank=True)
    message = models.TextField(blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(format__in=["csv", "jsonl", "zip"]),
                name="export_format_known",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "done", "failed"]),
                name="export_state_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_format_display()} of {self.fix_set}"

    @property
    def is_active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in (self.State.QUEUED, self.State.RUNNING)
