"""Opinions: what several reviewers say of one finding, without seeing each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from reviewapp.models.datasets import Dataset, Label
from reviewapp.models.findings import Finding
from reviewapp.models.reviews import Cause, DismissReason, Review, Verdict

if TYPE_CHECKING:
    from reviewapp.models.people import User


class OpinionQuerySet(models.QuerySet["Opinion"]):
    """Vocabulary for opinions."""

    def for_dataset(self, dataset: Dataset) -> OpinionQuerySet:
        """Keep the opinions on one data set."""
        return self.filter(finding__dataset=dataset)

    def by(self, user: User) -> OpinionQuerySet:
        """Keep one person's opinions."""
        return self.filter(reviewer=user)


class Opinion(models.Model):
    """A verdict given blind; the finding moves when enough of them agree."""

    finding = models.ForeignKey(
        Finding, models.CASCADE, db_index=False, related_name="opinions"
    )
    finding_version = models.PositiveIntegerField(help_text="What the reviewer saw")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="opinions"
    )
    verdict = models.CharField(max_length=7, choices=Verdict)
    new_label = models.ForeignKey(Label, models.PROTECT, null=True, related_name="+")
    reason = models.CharField(max_length=12, choices=DismissReason, blank=True)
    causes = ArrayField(models.CharField(max_length=20, choices=Cause), default=list)
    note = models.TextField(blank=True)
    key = models.UUIDField(null=True, help_text="The client's; a retry repeats it")
    review = models.ForeignKey(
        Review,
        models.SET_NULL,
        null=True,
        related_name="opinions",
        help_text="The verdict that settled it",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OpinionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["finding", "finding_version", "reviewer"], name="opinion_once"
            ),
            models.UniqueConstraint(
                fields=["reviewer", "key"],
                name="opinion_once_per_key",
                condition=Q(key__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} of {self.finding}, blind"


class KnownAnswer(models.Model):
    """A finding whose right verdict is known, mixed in to see how reviewers do."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="known_answers")
    finding = models.OneToOneField(Finding, models.CASCADE, related_name="known_answer")
    verdict = models.CharField(max_length=7, choices=Verdict)
    new_label = models.ForeignKey(Label, models.PROTECT, null=True, related_name="+")
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"known answer of {self.finding}: {self.verdict}"


class KnownAttempt(models.Model):
    """What a reviewer said where the answer was known; it changes nothing else."""

    known = models.ForeignKey(KnownAnswer, models.CASCADE, related_name="attempts")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="known_attempts"
    )
    verdict = models.CharField(max_length=7, choices=Verdict)
    new_label = models.ForeignKey(Label, models.PROTECT, null=True, related_name="+")
    is_right = models.BooleanField()
    key = models.UUIDField(null=True, help_text="The client's; a retry repeats it")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["known", "reviewer"], name="known_attempt_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} of {self.known}"
