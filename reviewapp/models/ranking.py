"""What helps a reviewer judge: exemplars, lookalikes, and a ranking that learns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from reviewapp.models.datasets import Dataset, Label, Sample
from reviewapp.models.registry import RegisteredModel
from reviewapp.models.scans import Scan

PATIENCE = timedelta(days=1)  # what failed for so long is left to the next scan


class PreparationQuerySet(models.QuerySet["Preparation"]):
    """Vocabulary for preparations."""

    def due(self, what: Preparation.What) -> PreparationQuerySet:
        """Keep what is to be made now, of scans that ended within a day."""
        now = timezone.now()
        return self.filter(
            what=what, due_at__lte=now, scan__finished_at__gt=now - PATIENCE
        )


class Preparation(models.Model):
    """What is still to be made for the desk after a scan; the row goes when it is made."""

    class What(models.TextChoices):
        AIDS = "aids", "lanes, exemplars and lookalikes"
        PICTURES = "pictures", "thumbnails of the exemplars"

    scan = models.ForeignKey(Scan, models.CASCADE, related_name="preparations")
    what = models.CharField(max_length=8, choices=What)
    due_at = models.DateTimeField(help_text="When it is asked for (again)")

    objects = PreparationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["scan", "what"], name="preparation_once_per_scan"
            ),
            models.CheckConstraint(
                condition=Q(what__in=["aids", "pictures"]),
                name="preparation_what_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.what} of {self.scan}"


class ExemplarQuerySet(models.QuerySet["Exemplar"]):
    """Vocabulary for exemplars."""

    def of_model(self, model: RegisteredModel) -> ExemplarQuerySet:
        """Keep one registered model."""
        return self.filter(registered_model=model)


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

    objects = ExemplarQuerySet.as_manager()

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
        help_text="scores: name -> weight, mean and scale; intercept; both only with "
        "enough verdicts. reviewed: all verdicts at the time of the fit"
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

    @property
    def is_fitted(self) -> bool:
        """Whether there were verdicts enough to learn from."""
        return "scores" in self.weights
