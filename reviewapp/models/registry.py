"""Registered models and their numbered versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models

from mining.types import ModelSpec
from reviewapp.models.datasets import Dataset

if TYPE_CHECKING:
    from reviewapp.models.people import User


class RegisteredModelQuerySet(models.QuerySet["RegisteredModel"]):
    """Vocabulary for registered models."""

    def visible_to(self, user: User) -> RegisteredModelQuerySet:
        """Keep the models of data sets that the person may see."""
        return self.filter(dataset__in=Dataset.objects.visible_to(user))

    def with_versions(self) -> RegisteredModelQuerySet:
        """Annotate `version_count` and `latest_number`."""
        return self.annotate(
            version_count=models.Count("versions"),
            latest_number=models.Max("versions__number"),
        )


class RegisteredModel(models.Model):
    """A named model; it belongs to the data set whose classes it predicts."""

    class DoubtOrder(models.TextChoices):
        SUREST = "surest", "surest first"
        HARDEST = "hardest", "hardest first"

    dataset = models.ForeignKey(
        Dataset, models.CASCADE, related_name="registered_models"
    )
    name = models.CharField(max_length=100)
    doubt_order = models.CharField(
        max_length=7,
        choices=DoubtOrder,
        blank=True,
        help_text="In which order of its errors wrong labels come first; empty: unknown",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RegisteredModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "name"], name="model_name_once_per_dataset"
            ),
            models.CheckConstraint(
                condition=models.Q(doubt_order__in=["", "surest", "hardest"]),
                name="model_doubt_order_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def latest_version(self) -> ModelVersion | None:
        """Return the version with the highest number."""
        return self.versions.order_by("-number").first()


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    """Vocabulary for model versions."""

    def for_dataset(self, dataset: Dataset) -> ModelVersionQuerySet:
        """Keep the versions of one data set's models."""
        return self.filter(registered_model__dataset=dataset)

    def with_names(self) -> ModelVersionQuerySet:
        """Load the registered model in the same query."""
        return self.select_related("registered_model")

    def trainable(self) -> ModelVersionQuerySet:
        """Keep those whose checkpoint a training can start from."""
        formats = (ModelVersion.Format.SAFETENSORS, ModelVersion.Format.STATE_DICT)
        return self.filter(format__in=formats)

    def controls(self) -> ModelVersionQuerySet:
        """Keep what was trained as the control of another version."""
        return self.filter(made_by__control_of__isnull=False)

    def without_controls(self) -> ModelVersionQuerySet:
        """Leave out what was trained as the control of another version."""
        return self.exclude(made_by__control_of__isnull=False)


class ModelVersion(models.Model):
    """One checkpoint of a registered model."""

    class Format(models.TextChoices):
        SAFETENSORS = "safetensors", "safetensors"
        STATE_DICT = "state_dict", "PyTorch state dict"
        ONNX = "onnx", "ONNX"
        TORCH_EXPORT = "torch_export", "torch.export archive"
        PREDICTIONS = "predictions", "predictions made elsewhere"

    registered_model = models.ForeignKey(
        RegisteredModel, models.CASCADE, related_name="versions"
    )
    number = models.PositiveIntegerField()
    checkpoint = models.TextField(
        blank=True,
        help_text="File or fsspec URL under a configured root; empty for predictions",
    )
    digest = models.CharField(
        max_length=64, help_text="SHA-256 of the checkpoint, or of the predictions"
    )
    format = models.CharField(max_length=12, choices=Format)
    architecture = models.CharField(max_length=100, blank=True)
    classes: models.JSONField[list[str], list[str]] = models.JSONField()
    preprocessing: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()
    note = models.TextField(blank=True)
    trained_on = models.ForeignKey(
        "reviewapp.FixSet", models.SET_NULL, null=True, related_name="trained_versions"
    )
    lineage: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict,
        help_text="Of a retrained one: digests of parent, fix set, recipe and data set",
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        ordering = ["registered_model", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["registered_model", "number"], name="version_number_once"
            ),
            models.UniqueConstraint(
                fields=["registered_model", "digest"], name="version_digest_once"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    format__in=[
                        "safetensors",
                        "state_dict",
                        "onnx",
                        "torch_export",
                        "predictions",
                    ]
                ),
                name="version_format_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.registered_model.name} v{self.number}"

    @property
    def has_checkpoint(self) -> bool:
        """Whether a worker can run it; predictions made elsewhere cannot be run."""
        return self.format != self.Format.PREDICTIONS

    def spec(self) -> ModelSpec:
        """Return the spec as it was registered, whatever its file says by now."""
        return ModelSpec.from_dict(
            {
                "format": self.format,
                "architecture": self.architecture,
                "classes": self.classes,
                "preprocessing": self.preprocessing,
            }
        )
