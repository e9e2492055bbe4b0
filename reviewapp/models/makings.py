"""Makings: what one worker makes in one go, and another from the start when it is lost."""

from __future__ import annotations

from typing import ClassVar, Self, TypeVar

from django.conf import settings as conf
from django.db import models

from reviewapp.models.leases import a_lease_ago

M = TypeVar("M", bound="Making")


class MakingQuerySet(models.QuerySet[M]):
    """Vocabulary for what workers make."""

    def active(self) -> Self:
        """Keep those that wait or are being made."""
        return self.filter(state__in=Making.ACTIVE)

    def idle(self) -> Self:
        """Leave out those that wait or are being made."""
        return self.exclude(state__in=Making.ACTIVE)

    def silent(self) -> Self:
        """Keep those whose worker has not been heard of within the lease."""
        return self.filter(state=Making.State.RUNNING, heartbeat_at__lt=a_lease_ago())

    def waiting_long(self) -> Self:
        """Keep those that were asked for a lease ago or earlier, and wait."""
        asked = {f"{self.model.ASKED_AT}__lt": a_lease_ago()}
        return self.filter(state=Making.State.QUEUED, **asked)


class Making(models.Model):
    """What one worker makes in one go."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    ACTIVE = (State.QUEUED, State.RUNNING)
    ASKED_AT: ClassVar[str] = "requested_at"
    KEPT: ClassVar[str]  # what is left of one that is given up, in a sentence

    state = models.CharField(max_length=7, choices=State, default=State.QUEUED)
    message = models.TextField(blank=True)
    losses = models.PositiveSmallIntegerField(
        default=0, help_text="Workers that went silent over it since it was asked for"
    )
    requested_by = models.ForeignKey(
        conf.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    heartbeat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True

    @property
    def is_active(self) -> bool:
        """Whether it still waits or is being made."""
        return self.state in self.ACTIVE
