"""Imports: predictions made elsewhere, checked and turned into a scan."""

from __future__ import annotations

from typing import Any

from django.conf import settings as conf
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from reviewapp.models.datasets import Dataset, Split
from reviewapp.models.scans import Scan


class ImportQuerySet(models.QuerySet["Import"]):
    """Vocabulary for imports."""

    def for_dataset(self, dataset: Dataset) -> ImportQuerySet:
        """Keep the imports of one data set."""
        return self.filter(dataset=dataset)

    def ended(self) -> ImportQuerySet:
        """Leave out those that wait or run."""
        return self.exclude(state__in=Import.ACTIVE)

    def with_names(self) -> ImportQuerySet:
        """Load the data set, scan and requester in the same query."""
        return self.select_related(
            "dataset", "scan__model_version__registered_model", "requested_by"
        )

    def newest_first(self) -> ImportQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")


class Import(models.Model):
    """One file of predictions for a data set or split, and what its check found."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        REFUSED = "refused", "refused"  # rows are bad; nothing was written
        FAILED = "failed", "failed"

    class Format(models.TextChoices):
        PARQUET = "parquet", "Parquet"
        CSV = "csv", "CSV"
        JSONL = "jsonl", "JSON lines"
        NPZ = "npz", "NumPy NPZ"

    ACTIVE = (State.QUEUED, State.RUNNING)

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="imports")
    model_name = models.CharField(
        max_length=100, help_text="The registered model; made when it is new"
    )
    split = models.CharField(
        max_length=5, choices=Split, blank=True, help_text="Empty: every sample"
    )
    format = models.CharField(max_length=7, choices=Format)
    file_name = models.CharField(
        max_length=200, help_text="As its owner calls it; shown, never opened"
    )
    file = models.TextField(
        blank=True, help_text="Name in the storage; empty: not there (any more)"
    )
    size = models.BigIntegerField(default=0, help_text="Bytes")
    sha256 = models.CharField(max_length=64, blank=True)
    classes: models.JSONField[list[str], list[str]] = models.JSONField(
        default=list, help_text="Order of the probabilities; empty: the file says"
    )
    near_miss_below = models.FloatField(
        default=0.6, validators=[MinValueValidator(0), MaxValueValidator(1)]
    )
    folds = models.PositiveSmallIntegerField(
        default=0, help_text="Of an out-of-fold run: how many models it is made of"
    )
    allow_partial = models.BooleanField(
        default=False, help_text="Leave bad rows out instead of refusing the file"
    )
    state = models.CharField(max_length=7, choices=State, default=State.QUEUED)
    attempts = models.PositiveIntegerField(
        default=0, help_text="Grows with each claim; a worker writes under its own"
    )
    progress = models.FloatField(default=0, help_text="Share of the file read, 0-1")
    rows = models.PositiveBigIntegerField(default=0, help_text="Rows read so far")
    report: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="Bad rows by kind, and the first of each"
    )
    scan = models.ForeignKey(Scan, models.SET_NULL, null=True, related_name="imports")
    message = models.TextField(blank=True)
    requested_by = models.ForeignKey(
        conf.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = ImportQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(format__in=["parquet", "csv", "jsonl", "npz"]),
                name="import_format_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=["queued", "running", "done", "refused", "failed"]
                ),
                name="import_state_known",
            ),
            models.CheckConstraint(
                condition=Q(near_miss_below__gte=0, near_miss_below__lte=1),
                name="import_near_miss_below_is_share",
            ),
            models.CheckConstraint(
                condition=~Q(state="refused") | Q(scan__isnull=True),
                name="import_refused_has_no_scan",
            ),
        ]
        indexes = [
            # The list on the import page, the latest first.
            models.Index(fields=["dataset", "-id"], name="import_dataset_newest"),
        ]

    def __str__(self) -> str:
        return f"import {self.pk}"

    @property
    def is_active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in self.ACTIVE
