"""What helps a reviewer judge: exemplars, lookalikes, and a ranking that learns."""

from __future__ import annotations

from typing import Any

from django.db import models

from reviewapp.models.datasets import Dataset, Label, Sample
from reviewapp.models.registry import RegisteredModel
from reviewapp.models.scans import Scan


class Exemplar(models.Model):
    """One of the surest correct samples of a class in the last scan."""

    registered_model = models.ForeignKey(
        RegisteredModel, models.CASCADE, db_index=False, related_name="exemplars"
    )
    label = models.ForeignKey(Label, models.CASCADE, related_name="exemplars")
    sample = models.ForeignKey(Sample, models.CASCADE, related_name="+")
    scan = models.ForeignKey(Scan, models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, help_text="The image when scanned")
    confidence = models.FloatField(help_text="Probability of the class, 0-1")
    place = models.PositiveSmallIntegerField(help_text="0: the surest")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["registered_model", "label", "place"], name="exemplar_once"
            ),
        ]

    def __str__(self) -> str:
        return f"exemplar {self.place} of {self.label}"


class Lookalike(models.Model):
    """Two nearly identical images among the findings; stored in both directions."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="+")
    sample = models.ForeignKey(
        Sample, models.CASCADE, db_index=False, related_name="lookalikes"
    )
    other = models.ForeignKey(Sample, models.CASCADE, related_name="+")
    distance = models.PositiveSmallIntegerField(
        help_text="Bits of 64 in which the perceptual hashes differ; 0: the same"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sample", "other"], name="lookalike_once"),
        ]

    def __str__(self) -> str:
        return f"{self.sample} looks like {self.other}"


class Ranker(models.Model):
    """A ranking learned from the verdicts on a registered model's findings."""

    registered_model = models.OneToOneField(
        RegisteredModel, models.CASCADE, related_name="ranker"
    )
    weights: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        help_text="Name of the score -> weight, mean and scale; and the intercept"
    )
    verdicts = models.PositiveIntegerField(help_text="Standing verdicts learned from")
    learned = models.FloatField(
        help_text="Cross-validated average precision of the learned order, 0-1"
    )
    plain = models.FloatField(help_text="That of the plain order, 0-1")
    is_used = models.BooleanField(help_text="Whether the learned order is better")
    fitted_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"ranker of {self.registered_model}"
