"""Out-of-fold runs: honest errors of the training split, from k models trained for it."""

from __future__ import annotations

from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from mining.training.folds import MAX_FOLDS
from reviewapp.models.datasets import Dataset
from reviewapp.models.imports import Import
from reviewapp.models.registry import ModelVersion
from reviewapp.models.runs import STATE_KNOWN, UNFINISHED, Run, RunQuerySet
from reviewapp.models.scans import Scan


class FoldRunQuerySet(RunQuerySet["FoldRun"]):
    """Vocabulary for out-of-fold runs."""

    def without_scan(self) -> FoldRunQuerySet:
        """Keep those that a list of scans does not show yet, the latest first."""
        return self.exclude(state=FoldRun.State.DONE).order_by("-id")


class FoldRun(Run):
    """One out-of-fold scan in the making: its models, and then its import."""

    ACT = "out-of-fold scan"
    KEPT = "The folds that are done are kept"
    FOLDER = "folds"
    NAMES = ("dataset", "parent__registered_model", "scan", "requested_by")

    dataset = models.ForeignKey(
        Dataset, models.CASCADE, db_index=False, related_name="fold_runs"
    )
    parent = models.ForeignKey(
        ModelVersion,
        models.CASCADE,
        related_name="fold_runs",
        help_text="Whose architecture and preprocessing the fold models have",
    )
    folds = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(2), MaxValueValidator(MAX_FOLDS)]
    )
    progress: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="`fold`, `epoch`, samples `done` of `all` in it"
    )
    notes: models.JSONField[list[str], list[str]] = models.JSONField(
        default=list, help_text="What a reader of its scan should know"
    )
    job = models.ForeignKey(
        Import,
        models.SET_NULL,
        null=True,
        related_name="+",
        help_text="What records its predictions",
    )
    scan = models.OneToOneField(
        Scan, models.SET_NULL, null=True, related_name="fold_run"
    )

    objects = models.Manager.from_queryset(FoldRunQuerySet)()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=STATE_KNOWN, name="foldrun_state_known"),
            models.CheckConstraint(
                condition=Q(folds__gte=2, folds__lte=20), name="foldrun_folds_in_range"
            ),
        ]
        indexes = [
            # The list of scans, above those that are there.
            models.Index(fields=["dataset", "-id"], name="foldrun_dataset_newest"),
            # The sweep for lost work.
            models.Index(
                fields=["requested_at"],
                name="foldrun_active",
                condition=UNFINISHED,
            ),
        ]

    def __str__(self) -> str:
        return f"out-of-fold run {self.pk}"
