"""Runs: hours of training that one worker has at a time, and another can go on with."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

from django.conf import settings as conf
from django.db import models
from django.db.models import Q

from mining.training.settings import TrainSettings
from reviewapp.models.leases import a_lease_ago

if TYPE_CHECKING:
    from reviewapp.models.datasets import Dataset

R = TypeVar("R", bound="Run")
STATE_KNOWN: Final = Q(state__in=["queued", "running", "done", "failed", "cancelled"])
UNFINISHED: Final = Q(state__in=["queued", "running"])


# Each kind makes its manager by from_queryset: mypy's plugin, when its cache is warm, takes
# as_manager of a subclass for a wrong override.
class RunQuerySet(models.QuerySet[R]):
    """Vocabulary for runs of any kind."""

    def for_dataset(self, dataset: Dataset) -> Self:
        """Keep the runs of one data set."""
        return self.filter(dataset=dataset)

    def with_names(self) -> Self:
        """Load what a page names in the same query, and nothing long."""
        return self.select_related(*self.model.NAMES).defer(*self.model.LONG)

    def held(self, run: R) -> Self:
        """Keep the run if the claim that `run` was read under still stands."""
        return self.filter(pk=run.pk, state=Run.State.RUNNING, attempts=run.attempts)

    def taken(self, worker: str, at: datetime) -> Self:
        """Keep those that a worker took at that moment and has."""
        return self.filter(state=Run.State.RUNNING, worker=worker, claimed_at=at)

    def silent(self) -> Self:
        """Keep running ones whose worker has not been heard of within the lease."""
        return self.filter(state=Run.State.RUNNING, heartbeat_at__lt=a_lease_ago())

    def waiting_long(self) -> Self:
        """Keep those whose message should be with the broker for a lease or longer."""
        return self.filter(state=Run.State.QUEUED, requested_at__lt=a_lease_ago())

    def unfinished(self) -> Self:
        """Keep those that wait or run."""
        return self.filter(UNFINISHED)

    def resumable(self) -> Self:
        """Keep those that ended before their end and can go on."""
        return self.filter(state__in=Run.RESUMABLE)


class Run(models.Model):
    """What one worker holds for hours, and what another needs to go on with it."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    ACTIVE = (State.QUEUED, State.RUNNING)
    RESUMABLE = (State.FAILED, State.CANCELLED)
    ACT: ClassVar[str]  # what the history calls one
    KEPT: ClassVar[str]  # what is left of one that is stopped, without a full stop
    FOLDER: ClassVar[str]  # of all of its kind, in the storage
    NAMES: ClassVar[tuple[str, ...]]  # relations that pages name
    LONG: ClassVar[tuple[str, ...]] = ()  # columns that no page of many shows

    dataset: models.ForeignKey[Dataset, Dataset]
    progress: models.JSONField[dict[str, Any], dict[str, Any]]

    settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        help_text="The fields of `mining.training.settings.TrainSettings`"
    )
    state = models.CharField(max_length=9, choices=State, default=State.QUEUED)
    message = models.TextField(blank=True)
    worker = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveIntegerField(
        default=0, help_text="Grows with each claim; a worker writes under its own"
    )
    losses = models.PositiveSmallIntegerField(
        default=0, help_text="Attempts whose worker went silent"
    )
    requested_by = models.ForeignKey(
        conf.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    requested_at = models.DateTimeField(help_text="The last time it was queued")
    claimed_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True

    @property
    def is_active(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in self.ACTIVE

    @property
    def is_resumable(self) -> bool:
        """Whether it ended before its end and can go on."""
        return self.state in self.RESUMABLE

    @property
    def folder(self) -> str:
        """Where what it can go on from lies in the storage."""
        return f"{self.FOLDER}/{self.pk:06d}"

    def ordered_settings(self) -> dict[str, Any]:
        """Return its settings in the order of their fields: the JSON has another."""
        known = TrainSettings.__slots__
        return {name: self.settings[name] for name in known if name in self.settings}
