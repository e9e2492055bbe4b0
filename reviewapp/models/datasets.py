"""Data sets, their classes and their samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Count, OuterRef, Q, Subquery

from mining.sources import url_for

if TYPE_CHECKING:
    from reviewapp.models.people import User


class Split(models.TextChoices):
    """The part of a data set a sample belongs to, as the data set says."""

    UNSPLIT = "", "no split"
    TRAIN = "train", "train"
    VAL = "val", "val"
    TEST = "test", "test"


class DatasetQuerySet(models.QuerySet["Dataset"]):
    """Vocabulary for data sets."""

    def visible_to(self, user: User) -> DatasetQuerySet:
        """Keep those the person is a member of; a superuser sees all."""
        if user.is_superuser:
            return self
        return self.filter(memberships__user=user)

    def by_name(self) -> DatasetQuerySet:
        """Order by name."""
        return self.order_by("name")

    def with_size(self) -> DatasetQuerySet:
        """Annotate `images`, as last registered, and `classes`."""
        registered = Registration.objects.of_row().done().newest_first()
        labels = Label.objects.current().filter(dataset=OuterRef("pk")).order_by()
        return self.annotate(
            images=Subquery(registered.values("total")[:1]),
            classes=Subquery(
                labels.values("dataset").annotate(n=Count("id")).values("n")
            ),
        )


class Dataset(models.Model):
    """A labelled set of images under a configured root."""

    name = models.CharField(max_length=100, unique=True)
    slug = models.SlugField(max_length=100, unique=True)
    root = models.TextField(help_text="Folder or fsspec URL under a configured root")
    manifest = models.TextField(
        blank=True,
        help_text="CSV, JSONL or Parquet file under the root; empty: folders",
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    overlap = models.PositiveSmallIntegerField(
        default=1, help_text="Reviewers who judge one finding, blind; 1: no overlap"
    )
    overlap_share = models.FloatField(
        default=1.0, help_text="Share of the findings that get the overlap, 0-1"
    )
    known_rate = models.FloatField(
        default=0.0,
        help_text="Share of what is handed out whose answer is known, 0-0.5",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(overlap__gte=1, overlap__lte=5),
                name="dataset_overlap_1_5",
            ),
            models.CheckConstraint(
                condition=models.Q(overlap_share__gte=0, overlap_share__lte=1),
                name="dataset_overlap_share_0_1",
            ),
            models.CheckConstraint(
                condition=models.Q(known_rate__gte=0, known_rate__lte=0.5),
                name="dataset_known_rate_0_half",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def class_names(self) -> list[str]:
        """Return the names of the current classes in index order."""
        return list(self.labels.current().values_list("name", flat=True))


class LabelQuerySet(models.QuerySet["Label"]):
    """Vocabulary for labels."""

    def current(self) -> LabelQuerySet:
        """Keep the classes that the data set has now, in index order."""
        return self.filter(index__isnull=False).order_by("index")


class Label(models.Model):
    """One class of a data set. A class that is gone keeps its row, without an index."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="labels")
    name = models.CharField(max_length=200)
    index = models.PositiveIntegerField(null=True, help_text="Position; null: gone")

    objects = LabelQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "name"], name="label_name_once_per_dataset"
            ),
            # Deferred: a registration moves many indexes in one transaction.
            models.UniqueConstraint(
                fields=["dataset", "index"],
                name="label_index_once_per_dataset",
                deferrable=models.Deferrable.DEFERRED,
            ),
        ]

    def __str__(self) -> str:
        return self.name


class SampleQuerySet(models.QuerySet["Sample"]):
    """Vocabulary for samples."""

    def present(self) -> SampleQuerySet:
        """Keep the samples that the data set still has."""
        return self.filter(removed_at__isnull=True)

    def in_split(self, split: str) -> SampleQuerySet:
        """Keep one split; an empty name keeps every sample."""
        return self.filter(split=split) if split else self


class Sample(models.Model):
    """One labelled image; its identity is (data set, key)."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="samples")
    key = models.TextField(help_text="Path under the root, as text")
    label = models.ForeignKey(Label, models.PROTECT, related_name="+")
    original_label = models.ForeignKey(Label, models.PROTECT, related_name="+")
    split = models.CharField(max_length=5, choices=Split, blank=True)
    digest = models.CharField(
        max_length=64, blank=True, help_text="SHA-256; empty: unreadable"
    )
    size = models.BigIntegerField(default=0, help_text="Bytes")
    attributes: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict
    )
    removed_at = models.DateTimeField(null=True)

    objects = SampleQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["dataset", "key"], name="sample_key_once"),
            models.CheckConstraint(
                condition=Q(split__in=Split.values), name="sample_split_known"
            ),
        ]
        indexes = [
            # A shard reads its range of one split in id order.
            models.Index(
                fields=["dataset", "split", "id"],
                name="sample_shard_range",
                condition=Q(removed_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def url(self) -> str:
        """Return what a worker opens; never for a client. Reads `self.dataset`."""
        return url_for(self.dataset.root, self.key)


class RegistrationQuerySet(models.QuerySet["Registration"]):
    """Vocabulary for registrations."""

    def of_row(self) -> RegistrationQuerySet:
        """Keep those of the data set of the outer query."""
        return self.filter(dataset=OuterRef("pk"))

    def visible_to(self, user: User) -> RegistrationQuerySet:
        """Keep the registrations of data sets that the person may see."""
        return self.filter(dataset__in=Dataset.objects.visible_to(user))

    def for_dataset(self, dataset: Dataset) -> RegistrationQuerySet:
        """Keep the registrations of one data set."""
        return self.filter(dataset=dataset)

    def done(self) -> RegistrationQuerySet:
        """Keep those that brought the data set up to date."""
        return self.filter(state=Registration.State.DONE)

    def newest_first(self) -> RegistrationQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")

    def newest_per_dataset(self) -> RegistrationQuerySet:
        """Keep the latest of each data set."""
        return self.order_by("dataset_id", "-id").distinct("dataset_id")


class Registration(models.Model):
    """One reading of a data set's source, and what it changed."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="registrations")
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    total = models.PositiveIntegerField(default=0, help_text="Samples found")
    done = models.PositiveIntegerField(default=0, help_text="Samples read so far")
    added = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0, help_text="Other bytes, same key")
    removed = models.PositiveIntegerField(default=0)
    relabelled = models.PositiveIntegerField(default=0)
    unreadable = models.PositiveIntegerField(default=0)
    message = models.TextField(blank=True)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    ACTIVE = (State.QUEUED, State.RUNNING)

    objects = RegistrationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "done", "failed"]),
                name="registration_state_known",
            ),
            models.UniqueConstraint(
                fields=["dataset"],
                condition=Q(state__in=["queued", "running"]),
                name="registration_one_active_per_dataset",
            ),
        ]

    def __str__(self) -> str:
        return f"registration {self.pk} of {self.dataset}"

    @property
    def is_active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in self.ACTIVE
