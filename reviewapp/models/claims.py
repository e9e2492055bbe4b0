"""Who has a finding before them, and who put it off."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Claim(models.Model):
    """A reviewer's hold on a finding until it expires."""

    finding = models.OneToOneField(
        "reviewapp.Finding", models.CASCADE, related_name="claim"
    )
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="claims"
    )
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [
            # A reviewer's own claims, read at every step through the queue.
            models.Index(fields=["reviewer", "expires_at"], name="claim_reviewer"),
        ]

    def __str__(self) -> str:
        return f"{self.finding} held by {self.reviewer}"


class Skip(models.Model):
    """A finding that a reviewer put off; it comes back when the rest is done."""

    finding = models.ForeignKey("reviewapp.Finding", models.CASCADE, related_name="+")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["finding", "reviewer"], name="skip_once"),
        ]

    def __str__(self) -> str:
        return f"{self.finding} skipped by {self.reviewer}"
