"""Exports: files made from frozen fix sets."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.text import slugify

from reviewapp.models.datasets import Dataset
from reviewapp.models.fixsets import FixSet
from reviewapp.models.makings import Making, MakingQuerySet


class ExportQuerySet(MakingQuerySet["Export"]):
    """Vocabulary for exports."""

    def for_dataset(self, dataset: Dataset) -> ExportQuerySet:
        """Keep the exports of one data set's fix sets."""
        return self.filter(fix_set__dataset=dataset)

    def with_names(self) -> ExportQuerySet:
        """Load the fix set and the requester in the same query."""
        return self.select_related("fix_set__dataset", "requested_by")


class Export(Making):
    """One file made from a frozen fix set."""

    class Format(models.TextChoices):
        CSV = "csv", "CSV"
        JSONL = "jsonl", "JSON lines"
        PARQUET = "parquet", "Parquet"
        ZIP = "zip", "ZIP, a folder per class"
        IMAGEFOLDER = "imagefolder", "Hugging Face imagefolder"
        COCO = "coco", "COCO"
        LABEL_STUDIO = "labelstudio", "Label Studio tasks"
        FIFTYONE = "fiftyone", "FiftyOne data set"
        CVAT = "cvat", "CVAT XML"
        RECIPE = "recipe", "Recipe"
        PATCH = "patch", "Patch of the manifest"
        MANIFEST = "manifest", "Corrected manifest"

    # What each is for, in a line, and the suffix of its file.
    ABOUT = {
        Format.CSV: ("csv", "a line per item, for people and spreadsheets"),
        Format.JSONL: ("jsonl", "an object per item with exact values, for programs"),
        Format.PARQUET: ("parquet", "a row per item with types, for pandas and SQL"),
        Format.ZIP: ("zip", "the images, a folder per label: most trainers read it"),
        Format.IMAGEFOLDER: ("zip", "the images with metadata.jsonl, for datasets"),
        Format.COCO: ("json", "images and categories, for tools that read COCO"),
        Format.LABEL_STUDIO: (
            "zip",
            "tasks with labels and predictions, to look again",
        ),
        Format.FIFTYONE: ("zip", "the images with labels.json, to explore in FiftyOne"),
        Format.CVAT: ("xml", "a tag per image, to upload to a CVAT task"),
        Format.RECIPE: ("json", "weights, repeats and hints, for training"),
        Format.PATCH: ("patch", "a diff that corrects the labels in the manifest"),
        Format.MANIFEST: (
            "csv",
            "the manifest with right labels; of folders, the moves",
        ),
    }

    ASKED_AT = "created_at"
    KEPT = "Nothing was exported; the fix set is kept."

    fix_set = models.ForeignKey(FixSet, models.CASCADE, related_name="exports")
    format = models.CharField(max_length=11, choices=Format)
    done = models.PositiveIntegerField(default=0, help_text="Items written so far")
    file = models.TextField(blank=True, help_text="Name in the storage")
    size = models.BigIntegerField(default=0, help_text="Bytes")
    sha256 = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    format__in=[
                        "csv",
                        "jsonl",
                        "parquet",
                        "zip",
                        "imagefolder",
                        "coco",
                        "labelstudio",
                        "fiftyone",
                        "cvat",
                        "recipe",
                        "patch",
                        "manifest",
                    ]
                ),
                name="export_format_known",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "done", "failed"]),
                name="export_state_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_format_display()} of {self.fix_set}"

    @classmethod
    def formats_and_uses(cls) -> list[tuple[str, str, str]]:
        """Return (value, name, what it is for) of each format."""
        return [
            (kind.value, str(kind.label), cls.ABOUT[kind][1]) for kind in cls.Format
        ]

    @property
    def suffix(self) -> str:
        """Return what the name of its file ends in. Reads the data set."""
        manifest = self.fix_set.dataset.manifest
        if self.format == self.Format.MANIFEST and manifest:
            return manifest.lower().rpartition(".")[2]
        return self.ABOUT[self.Format(self.format)][0]

    @property
    def file_name(self) -> str:
        """Return a file name of ASCII letters, digits, "-" and "." for its download."""
        stem = slugify(self.fix_set.name)[:60] or "fix-set"
        kind = "" if self.format == self.suffix else f"-{self.format}"
        return f"{stem}-{self.fix_set.digest[:8]}{kind}.{self.suffix}"
