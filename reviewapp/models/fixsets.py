"""Fix sets: frozen findings that feed retraining."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Count, F, Func, Q
from django.db.models.functions import Collate

from mining.fixset import COLUMNS, FixRow
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
        blank=True, help_text="What of it changed since, a line each"
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


class ItemQuerySet(models.QuerySet[Any]):
    """Vocabulary for the items of fix sets."""

    def count_by(self, field: str) -> dict[str, int]:
        """Return value of a field -> number of items, most frequent first."""
        rows = self.values_list(field).annotate(n=Count("id")).order_by("-n", field)
        found: dict[str, int] = dict(rows)
        return found

    def count_by_pair(self, limit: int) -> list[tuple[str, str, int]]:
        """Return (true label, predicted, number), the most frequent ones first."""
        pair = ("true_label", "predicted")
        rows = self.values_list(*pair).annotate(n=Count("id")).order_by("-n", *pair)
        return list(rows[:limit])

    def count_by_cause(self) -> dict[str, int]:
        """Return cause -> number of items that name it, most frequent first."""
        each: ItemQuerySet = self.annotate(cause=Func(F("causes"), function="unnest"))
        return each.count_by("cause")

    def in_export_order(self) -> ItemQuerySet:
        """Order by image, then prediction, by code point as the digest has it."""
        return self.order_by(Collate("sample_key", "C"), Collate("predicted", "C"))

    def names_in(self, *fields: str) -> list[str]:
        """Return the classes that stand in any of these fields, sorted."""
        rows = (self.order_by().values_list(name, flat=True) for name in fields)
        return sorted({name for found in rows for name in found.distinct()})

    def corrected(self) -> ItemQuerySet:
        """Keep those whose label to train with is not the one that the image had."""
        return self.exclude(label=F("original_label"), true_label=F("original_label"))

    def count_images(self) -> int:
        """Return how many images they are about."""
        return self.order_by().values("sample_key").distinct().count()


class Item(models.Model):
    """One finding as it was when the set was frozen."""

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

    objects = ItemQuerySet.as_manager()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.sample_key

    def cause_labels(self) -> list[str]:
        """Return the causes as people read them."""
        return [str(Cause(cause).label) for cause in self.causes]

    def as_row(self) -> FixRow:
        """Return the item as the exporters take it."""
        return row_of(self)


def row_of(item: Any) -> FixRow:
    """Return an item, or what has its fields, as the exporters take it."""
    given = {name: getattr(item, name) for name in COLUMNS}
    given["causes"] = tuple(item.causes)
    given["reviewed_at"] = item.reviewed_at.isoformat()
    return FixRow(**given)


class FixItem(Item):
    """One that is to be trained with."""

    fix_set = models.ForeignKey(FixSet, models.CASCADE, related_name="items")

    class Meta:
        ordering = ["fix_set", "sample_key", "predicted"]
        constraints = [
            models.UniqueConstraint(
                fields=["fix_set", "sample_key", "true_label", "predicted"],
                name="fixitem_once",
            ),
        ]


class HeldItem(Item):
    """One that matched and was held aside, and why; its recipe may hear of it."""

    class Reason(models.TextChoices):
        AMBIGUOUS = "ambiguous", "ambiguous or out of scope"
        LABEL_SUSPECT = "label_suspect", "label in doubt"
        OUTLIER = "outlier", "outlier"
        DUPLICATE = "duplicate", "duplicate"

        @property
        def why(self) -> str:
            """Return what the guard looks for, in a sentence."""
            return _WHY[self]

    fix_set = models.ForeignKey(FixSet, models.CASCADE, related_name="held_aside")
    reason = models.CharField(max_length=13, choices=Reason)

    class Meta:
        ordering = ["fix_set", "sample_key", "predicted"]
        constraints = [
            models.UniqueConstraint(
                fields=["fix_set", "sample_key", "true_label", "predicted"],
                name="helditem_once",
            ),
            models.CheckConstraint(
                condition=Q(
                    reason__in=["ambiguous", "label_suspect", "outlier", "duplicate"]
                ),
                name="helditem_reason_known",
            ),
        ]

    @property
    def reason_name(self) -> str:
        """Return the reason as people read it."""
        return str(self.get_reason_display())


_WHY = {
    HeldItem.Reason.AMBIGUOUS: "A reviewer named it ambiguous or out of scope: nobody "
    "can learn a right answer from it.",
    HeldItem.Reason.LABEL_SUSPECT: "One person alone confirmed a label that the scan "
    "doubts, or the same image has two answers.",
    HeldItem.Reason.OUTLIER: "Its brightness, contrast or sharpness is like nothing of "
    "its class, and no cause says so.",
    HeldItem.Reason.DUPLICATE: "The same or nearly the same image is in the set "
    "already, with a harder error.",
}
