"""Scans, their shards, and the facts a finished scan leaves."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.db import models
from django.db.models import Count, Exists, F, OuterRef, Q, Sum

from reviewapp.models.datasets import Dataset, Sample, Split
from reviewapp.models.leases import a_lease_ago
from reviewapp.models.registry import ModelVersion, RegisteredModel

if TYPE_CHECKING:
    from reviewapp.models.people import User


class ScanQuerySet(models.QuerySet["Scan"]):
    """Vocabulary for scans."""

    def visible_to(self, user: User) -> ScanQuerySet:
        """Keep the scans of data sets that the person may see."""
        return self.filter(dataset__in=Dataset.objects.visible_to(user))

    def for_dataset(self, dataset: Dataset) -> ScanQuerySet:
        """Keep the scans of one data set."""
        return self.filter(dataset=dataset)

    def active(self) -> ScanQuerySet:
        """Keep those that wait, run or finish."""
        return self.filter(state__in=Scan.ACTIVE)

    def finished(self) -> ScanQuerySet:
        """Keep those that ended with counts that can be trusted."""
        return self.filter(state=Scan.State.DONE)

    def of_model(self, model: RegisteredModel) -> ScanQuerySet:
        """Keep the scans of one registered model."""
        return self.filter(model_version__registered_model=model)

    def newest_first(self) -> ScanQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")

    def counted(self) -> ScanQuerySet:
        """Leave out older versions that were scanned again for the record."""
        return self.filter(for_record=False)

    def newest_per_dataset(self) -> ScanQuerySet:
        """Keep the latest of each data set."""
        return self.order_by("dataset_id", "-id").distinct("dataset_id")

    def with_names(self) -> ScanQuerySet:
        """Load the data set, model and requester in the same query."""
        return self.select_related(
            "dataset", "model_version__registered_model", "requested_by"
        )

    def with_control(self) -> ScanQuerySet:
        """Annotate `is_control`: of a version that shows what chance alone would bring."""
        return self.annotate(is_control=_is_control())

    def without_controls(self) -> ScanQuerySet:
        """Leave out those of such versions."""
        return self.filter(~_is_control())

    def lean(self) -> ScanQuerySet:
        """Load the version's name and number alone, and no settings: for many scans."""
        return self.select_related("model_version__registered_model").defer(
            "settings",
            "model_version__checkpoint",
            "model_version__classes",
            "model_version__preprocessing",
        )

    def with_progress(self) -> ScanQuerySet:
        """Annotate `samples_done`: all of a done scan, else the sum over its shards."""
        shards = Shard.objects.filter(scan=OuterRef("pk")).order_by().values("scan")
        summed = models.Subquery(shards.annotate(n=Sum("samples_done")).values("n"))
        whole = models.When(state=Scan.State.DONE, then=F("samples"))
        return self.annotate(samples_done=models.Case(whole, default=summed))


def _is_control() -> Exists:
    controls = ModelVersion.objects.controls()
    return Exists(controls.filter(pk=OuterRef("model_version")))


class Scan(models.Model):
    """One model version over one data set or split, with fixed settings."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        FINISHING = "finishing", "finishing"
        DONE = "done", "done"
        PARTIAL = "partial", "partial"  # parts are quarantined; the rest is counted
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    class Trigger(models.TextChoices):
        PAGE = "page", "page"
        API = "api", "API"
        COMMAND = "command", "command line"
        SCHEDULE = "schedule", "schedule"
        IMPORT = "import", "import"
        TRAINING = "training", "training"

    ACTIVE = (State.QUEUED, State.RUNNING, State.FINISHING)
    RESUMABLE = (State.PARTIAL, State.FAILED, State.CANCELLED)

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="scans")
    model_version = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="scans"
    )
    split = models.CharField(
        max_length=5, choices=Split, blank=True, help_text="Empty: every sample"
    )
    state = models.CharField(max_length=9, choices=State, default=State.QUEUED)
    trigger = models.CharField(max_length=8, choices=Trigger)
    settings: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField()
    folds = models.PositiveSmallIntegerField(
        default=0,
        help_text="Fold models that judged the images they had not seen; 0: not so",
    )
    covers_train = models.BooleanField(
        default=False, help_text="It looks at samples of the train split"
    )
    for_record = models.BooleanField(
        default=False,
        help_text="A newer version was scanned before: counts and outcomes only",
    )
    classes: models.JSONField[list[int], list[int]] = models.JSONField(
        help_text="Label ids in the model's class order"
    )
    samples = models.PositiveIntegerField(default=0, help_text="Samples to look at")
    correct = models.PositiveIntegerField(null=True)
    errors = models.PositiveIntegerField(null=True)
    near_misses = models.PositiveIntegerField(null=True)
    unreadable = models.PositiveIntegerField(null=True)
    rechecked = models.PositiveIntegerField(
        null=True, help_text="Close calls computed again in float32"
    )
    changed = models.PositiveIntegerField(
        null=True, help_text="Of these, predictions that float32 changed"
    )
    waiting = models.PositiveIntegerField(
        null=True,
        help_text="Findings of its model without a verdict when it had ended",
    )
    artefact = models.TextField(blank=True, help_text="Name in the storage")
    message = models.TextField(blank=True)
    requested_by = models.ForeignKey(
        conf.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = ScanQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "queued",
                        "running",
                        "finishing",
                        "done",
                        "partial",
                        "failed",
                        "cancelled",
                    ]
                ),
                name="scan_state_known",
            ),
            models.UniqueConstraint(
                fields=["dataset", "model_version"],
                condition=Q(state__in=["queued", "running", "finishing"]),
                name="scan_one_active_per_dataset_version",
            ),
            models.CheckConstraint(
                condition=~Q(state="done")
                | Q(samples=F("correct") + F("errors") + F("unreadable")),
                name="scan_counts_in_equal_counts_out",
            ),
        ]
        indexes = [
            # Lists of scans, the latest first.
            models.Index(fields=["dataset", "-id"], name="scan_dataset_newest"),
        ]

    def __str__(self) -> str:
        return f"scan {self.pk}"

    @property
    def is_active(self) -> bool:
        """Whether it still waits, runs or finishes."""
        return self.state in self.ACTIVE

    @property
    def is_done(self) -> bool:
        """Whether it ended with counts that can be trusted."""
        return self.state == self.State.DONE

    @property
    def is_in_sample(self) -> bool:
        """Whether its model may have been trained on what it judges here."""
        return self.covers_train and not self.folds

    @property
    def readable(self) -> int:
        """Return how many samples got a prediction."""
        return (self.correct or 0) + (self.errors or 0)

    @property
    def accuracy(self) -> float | None:
        """Return correct / readable, 0-1; None before the end or without samples."""
        if not self.is_done or not self.readable:
            return None
        return (self.correct or 0) / self.readable

    @property
    def error_rate(self) -> float | None:
        """Return errors / readable, 0-1; None before the end or without samples."""
        return None if self.accuracy is None else 1 - self.accuracy


UNFINISHED = Q(state__in=["queued", "running"])  # shards that wait or run


class ShardQuerySet(models.QuerySet["Shard"]):
    """Vocabulary for shards."""

    def unfinished(self) -> ShardQuerySet:
        """Keep those that wait or run."""
        return self.filter(UNFINISHED)

    def undone(self) -> ShardQuerySet:
        """Keep those that a resumed scan runs again."""
        return self.exclude(state=Shard.State.DONE)

    def claimable(self) -> ShardQuerySet:
        """Keep those that wait, of scans that go on."""
        # EXISTS and no join: of two workers that update the same row, the second sees
        # what the first did to it. A join would be looked up in a subquery, before that.
        going = (Scan.State.QUEUED, Scan.State.RUNNING)
        return self.filter(
            Exists(Scan.objects.filter(pk=OuterRef("scan_id"), state__in=going)),
            state=Shard.State.QUEUED,
        )

    def taken(self, worker: str, at: datetime) -> ShardQuerySet:
        """Keep those that a worker took at that moment and has."""
        return self.filter(state=Shard.State.RUNNING, worker=worker, started_at=at)

    def held(self, shard: Shard) -> ShardQuerySet:
        """Keep the shard if the claim that `shard` was read under still stands."""
        running = Scan.objects.filter(pk=OuterRef("scan_id"), state=Scan.State.RUNNING)
        return self.filter(
            Exists(running),
            pk=shard.pk,
            state=Shard.State.RUNNING,
            attempts=shard.attempts,
        )

    def silent(self) -> ShardQuerySet:
        """Keep running shards whose worker has not been heard of within the lease."""
        return self.filter(state=Shard.State.RUNNING, heartbeat_at__lt=a_lease_ago())

    def of_workers(self) -> ShardQuerySet:
        """Leave out those that an import records."""
        return self.exclude(scan__trigger=Scan.Trigger.IMPORT)

    def waiting_long(self) -> ShardQuerySet:
        """Keep those whose message should be with the broker for a lease or longer."""
        lately = a_lease_ago()
        return (
            self.claimable()
            .of_workers()
            .filter(scan__created_at__lt=lately)
            .exclude(heartbeat_at__gte=lately)
        )

    def troubled(self) -> ShardQuerySet:
        """Keep those whose last attempt left a message."""
        return self.exclude(message="")

    def counts_by_state(self) -> dict[str, int]:
        """Return state -> number of shards, for the states there are."""
        rows = self.order_by().values_list("state").annotate(n=Count("id"))
        return dict(rows)


class Shard(models.Model):
    """A run of consecutive samples: what a worker claims, repeats and finishes."""

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        QUARANTINED = "quarantined", "quarantined"

    scan = models.ForeignKey(Scan, models.CASCADE, related_name="shards")
    number = models.PositiveIntegerField()
    first_sample = models.BigIntegerField(help_text="Lowest sample id, inclusive")
    last_sample = models.BigIntegerField(help_text="Highest sample id, inclusive")
    samples = models.PositiveIntegerField()
    samples_done = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=11, choices=State, default=State.QUEUED)
    attempts = models.PositiveIntegerField(
        default=0, help_text="Grows with each claim; a worker writes under its own"
    )
    failures = models.PositiveSmallIntegerField(
        default=0, help_text="Attempts that ended with an error"
    )
    losses = models.PositiveSmallIntegerField(
        default=0, help_text="Attempts whose worker went silent"
    )
    worker = models.CharField(max_length=200, blank=True)
    heartbeat_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    correct = models.PositiveIntegerField(default=0)
    errors = models.PositiveIntegerField(default=0)
    near_misses = models.PositiveIntegerField(default=0)
    unreadable = models.PositiveIntegerField(default=0)
    rechecked = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0)
    pace: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, help_text="What its worker measured: device, seconds, memory"
    )
    message = models.TextField(blank=True)

    objects = ShardQuerySet.as_manager()

    class Meta:
        ordering = ["scan", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["scan", "number"], name="shard_number_once"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "done", "quarantined"]),
                name="shard_state_known",
            ),
            models.CheckConstraint(
                condition=~Q(state="done")
                | Q(samples=F("correct") + F("errors") + F("unreadable")),
                name="shard_counts_in_equal_counts_out",
            ),
        ]
        indexes = [
            # The sweep for lost work.
            models.Index(
                fields=["heartbeat_at"],
                name="shard_running_by_heartbeat",
                condition=Q(state="running"),
            ),
            # Whether a scan has any left, asked at the end of each.
            models.Index(
                fields=["scan"], name="shard_unfinished", condition=UNFINISHED
            ),
        ]

    def __str__(self) -> str:
        return f"shard {self.number} of {self.scan}"


class UnreadableSample(models.Model):
    """A sample that a scan could not read, and why."""

    scan = models.ForeignKey(Scan, models.CASCADE, related_name="unreadable_samples")
    sample = models.ForeignKey(Sample, models.CASCADE, related_name="+")
    reason = models.TextField()
    digest = models.CharField(
        max_length=64,
        blank=True,
        help_text="Names the thumbnails, where the bytes could be shown",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["scan", "sample"], name="unreadable_once_per_scan"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sample}: {self.reason}"
