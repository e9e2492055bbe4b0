"""Findings: errors and near misses that live across scans, and their sightings."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Count, Exists, F, OuterRef, Q, Subquery
from django.utils import timezone

from reviewapp.models.claims import Claim, Skip
from reviewapp.models.datasets import Dataset, Label, Sample
from reviewapp.models.registry import RegisteredModel
from reviewapp.models.scans import Scan

if TYPE_CHECKING:
    from reviewapp.models.people import User


# What waits for a verdict: it and the rest are in partial indexes of their own.
WAITING = Q(review_state="open", presence__in=["seen", "regressed"])
BACK = Q(review_state="open", presence="regressed")
KINDS = ["misclassified", "near_miss"]
# What the queues of a data set, and its list, go along. Each kind has indexes of its own:
# every column in a key costs each finding that a scan stores.
QUEUES = (
    ("hardest", ["-priority", "-id"], WAITING),
    ("newest", ["id"], WAITING),  # and random
    ("surest", ["confidence", "id"], WAITING),  # and least sure
    ("back", ["-priority", "-id"], BACK),  # few
)


def confidence_ends(low: float | None, high: float | None) -> tuple[float, float]:
    """Return the ends of a range of confidences as findings may hold them.

    A scan's are 32-bit floats, some imported ones are not: 0.9 is in a range from 0.9
    either way.
    """
    first = 0.0 if low is None else float(low)
    last = 1.0 if high is None else float(high)
    single = struct.unpack("2f", struct.pack("2f", first, last))
    return min(first, single[0]), max(last, single[1])


class FindingQuerySet(models.QuerySet["Finding"]):
    """Vocabulary for findings."""

    def visible_to(self, user: User) -> FindingQuerySet:
        """Keep the findings of data sets that the person may see."""
        return self.filter(dataset__in=Dataset.objects.visible_to(user))

    def for_dataset(self, dataset: Dataset) -> FindingQuerySet:
        """Keep the findings of one data set."""
        return self.filter(dataset=dataset)

    def misclassified(self) -> FindingQuerySet:
        """Keep the errors, without near misses."""
        return self.filter(kind=Finding.Kind.MISCLASSIFIED)

    def present(self) -> FindingQuerySet:
        """Keep what the last scans that covered the sample still saw."""
        return self.filter(presence__in=Finding.PRESENT)

    def fixed(self) -> FindingQuerySet:
        """Keep what the last scans that covered the sample saw no more."""
        return self.filter(presence=Finding.Presence.FIXED)

    def waiting(self) -> FindingQuerySet:
        """Keep what waits for a verdict: open and still seen."""
        return self.filter(WAITING)

    def settled(self) -> FindingQuerySet:
        """Keep what does not wait: reviewed, or no longer seen."""
        return self.filter(~WAITING)

    def parts(self) -> list[FindingQuerySet]:
        """Return the same findings in disjoint sets, each in an index of its own."""
        near = self.filter(kind=Finding.Kind.NEAR_MISS)
        kinds = (self.misclassified(), near)
        return [part for kind in kinds for part in (kind.waiting(), kind.settled())]

    def reviewed(self) -> FindingQuerySet:
        """Keep what has a standing verdict."""
        return self.exclude(review_state=Finding.ReviewState.OPEN)

    def fixable(self) -> FindingQuerySet:
        """Keep what goes into a fix set: confirmed or relabelled."""
        return self.filter(review_state__in=Finding.FIXABLE)

    def of_model(self, model: RegisteredModel) -> FindingQuerySet:
        """Keep the findings of one registered model."""
        return self.filter(registered_model=model)

    def of_confusion(self, true_label: int, predicted_label: int) -> FindingQuerySet:
        """Keep one confusion, by label ids."""
        return self.filter(true_label=true_label, predicted_label=predicted_label)

    def of_confidence(
        self, low: float | None = None, high: float | None = None
    ) -> FindingQuerySet:
        """Keep what was predicted with a confidence from `low` to `high`, 0-1."""
        first, last = confidence_ends(low, high)
        found = self if low is None else self.filter(confidence__gte=first)
        return found if high is None else found.filter(confidence__lte=last)

    def seen_by(self, scan: int) -> FindingQuerySet:
        """Keep what a scan saw, by its id: what it has a sighting of."""
        seen = Sighting.objects.filter(scan=scan, finding=OuterRef("pk"))
        return self.filter(Exists(seen))

    def hardest_first(self) -> FindingQuerySet:
        """Order by priority = 1 - p_true, the highest first."""
        return self.order_by("-priority", "-id")

    def with_names(self) -> FindingQuerySet:
        """Load what a list shows in the same query."""
        return self.select_related(
            "sample", "true_label", "predicted_label", "registered_model"
        )

    def with_scans(self) -> FindingQuerySet:
        """Annotate `first_scan` and `last_scan`: the ids of the scans that saw it."""
        seen = Sighting.objects.filter(finding=OuterRef("pk")).values("scan")
        return self.annotate(
            first_scan=Subquery(seen.order_by("scan")[:1]),
            last_scan=Subquery(seen.order_by("-scan")[:1]),
        )

    def not_held_by_others(self, user: User) -> FindingQuerySet:
        """Leave out what another reviewer holds now."""
        return self.exclude(
            Exists(
                Claim.objects.filter(
                    finding=OuterRef("pk"), expires_at__gt=timezone.now()
                ).exclude(reviewer=user)
            )
        )

    def held_by(self, user: User) -> FindingQuerySet:
        """Keep what this reviewer holds now."""
        return self.filter(claim__reviewer=user, claim__expires_at__gt=timezone.now())

    def held_by_others(self, user: User) -> FindingQuerySet:
        """Keep what other reviewers hold now."""
        return self.filter(claim__expires_at__gt=timezone.now()).exclude(
            claim__reviewer=user
        )

    def not_skipped_by(self, user: User) -> FindingQuerySet:
        """Leave out what this reviewer put off."""
        return self.exclude(
            Exists(Skip.objects.filter(finding=OuterRef("pk"), reviewer=user))
        )

    def count_up_to(self, limit: int) -> int:
        """Count, but stop at `limit`: a million rows would cost more than the page."""
        return self.order_by()[:limit].count()

    def count_by_holder(self) -> dict[str, int]:
        """Return the name of the reviewer who holds them -> number."""
        name = "claim__reviewer__username"
        rows = self.values_list(name).annotate(n=Count("id")).order_by(name)
        return dict(rows)

    def count_by_state(self) -> dict[tuple[str, str], int]:
        """Return (review state, presence) -> number of findings."""
        fields = ("review_state", "presence")
        rows = self.order_by(*fields).values_list(*fields).annotate(n=Count("id"))
        return {(review, presence): n for review, presence, n in rows}


class Finding(models.Model):
    """An error or near miss under review; it outlives the scan that found it."""

    class Kind(models.TextChoices):
        MISCLASSIFIED = "misclassified", "error"
        NEAR_MISS = "near_miss", "near miss"

    class ReviewState(models.TextChoices):
        OPEN = "open", "open"
        CONFIRMED = "confirmed", "confirmed"
        RELABELLED = "relabelled", "relabelled"
        DISMISSED = "dismissed", "dismissed"
        FLAGGED = "flagged", "flagged"  # for a second opinion
        DISPUTED = "disputed", "disputed"  # blind opinions differ

    class Presence(models.TextChoices):
        SEEN = "seen", "seen now"
        FIXED = "fixed", "fixed"
        REGRESSED = "regressed", "back"
        SUPERSEDED = "superseded", "replaced"  # by another label, image or prediction

    FIXABLE = (ReviewState.CONFIRMED, ReviewState.RELABELLED)
    PRESENT = (Presence.SEEN, Presence.REGRESSED)

    # An index of its own only for what no other index leads with. Statement triggers
    # (migrations 0006 to 0029) keep what a foreign key would look up per row.
    dataset = models.ForeignKey(
        Dataset,
        models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="findings",
    )
    registered_model = models.ForeignKey(
        RegisteredModel,
        models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="findings",
    )
    sample = models.ForeignKey(
        Sample,
        models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="findings",
    )
    true_label = models.ForeignKey(
        Label,
        models.PROTECT,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    predicted_label = models.ForeignKey(
        Label,
        models.PROTECT,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )
    kind = models.CharField(max_length=13, choices=Kind)
    review_state = models.CharField(
        max_length=10, choices=ReviewState, default=ReviewState.OPEN
    )
    presence = models.CharField(max_length=10, choices=Presence, default=Presence.SEEN)
    priority = models.FloatField(help_text="1 - p_true when last seen, 0-1")
    confidence = models.FloatField(
        help_text="Probability of the prediction when last seen"
    )
    digest = models.CharField(max_length=64, help_text="The image when last seen")
    version = models.PositiveIntegerField(
        default=0,
        help_text="Grows with each verdict, undo and change; verdicts carry it",
    )
    reopened_because = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = FindingQuerySet.as_manager()

    class Meta:
        constraints = [
            # The data set is the model's. The sample leads: a shard's findings lie side
            # by side, and the findings of one sample are found.
            models.UniqueConstraint(
                fields=["sample", "registered_model", "true_label", "predicted_label"],
                name="finding_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=KINDS),
                name="finding_kind_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    review_state__in=[
                        "open",
                        "confirmed",
                        "relabelled",
                        "dismissed",
                        "flagged",
                        "disputed",
                    ]
                ),
                name="finding_review_state_known",
            ),
            models.CheckConstraint(
                condition=Q(presence__in=["seen", "fixed", "regressed", "superseded"]),
                name="finding_presence_known",
            ),
            models.CheckConstraint(
                condition=(Q(kind="near_miss") & Q(true_label=F("predicted_label")))
                | (Q(kind="misclassified") & ~Q(true_label=F("predicted_label"))),
                name="finding_near_miss_is_right",
            ),
            models.CheckConstraint(
                condition=Q(priority__gte=0, priority__lte=1),
                name="finding_priority_0_1",
            ),
        ]
        indexes = [
            *(
                models.Index(
                    fields=["dataset", *fields],
                    name=f"finding_{order}_{kind}",
                    condition=Q(kind=kind) & which,
                )
                for order, fields, which in QUEUES
                for kind in KINDS
            ),
            # The review queue of one confusion. Labels are of one data set.
            models.Index(
                fields=["true_label", "predicted_label", "-priority", "-id"],
                name="finding_queue_pair",
                condition=WAITING,
            ),
            # The findings list but for what waits.
            models.Index(
                fields=["dataset", "kind", "-priority", "-id"],
                name="finding_settled",
                condition=~WAITING,
            ),
            # Its confusion filter.
            models.Index(
                fields=["dataset", "true_label", "predicted_label", "-priority", "-id"],
                name="finding_settled_confusion",
                condition=~WAITING,
            ),
            # Its review filter, and what waits for a second opinion.
            models.Index(
                fields=["dataset", "review_state", "-priority", "-id"],
                name="finding_reviewed",
                condition=~Q(review_state="open"),
            ),
            # Its presence filter, but for what waits: a scan may bring back a hundred
            # thousand, and each index of them costs it half a second.
            models.Index(
                fields=["dataset", "presence", "-priority", "-id"],
                name="finding_gone",
                condition=~Q(presence="seen") & ~BACK,
            ),
        ]

    def __str__(self) -> str:
        return f"finding {self.pk}"

    @property
    def pair(self) -> str:
        """Return "A → B", or "A, near miss" when the prediction is right."""
        if self.kind == self.Kind.NEAR_MISS:
            return f"{self.true_label}, near miss"
        return f"{self.true_label} → {self.predicted_label}"

    @property
    def p_true(self) -> float:
        """Return the probability given to the true label when last seen, 0-1."""
        return 1 - self.priority


class Sighting(models.Model):
    """A finding as one scan saw it."""

    pk = models.CompositePrimaryKey("scan", "finding")
    # Statement triggers (migration 0008) keep both; the primary key leads with the scan.
    finding = models.ForeignKey(
        Finding, models.CASCADE, db_constraint=False, related_name="sightings"
    )
    scan = models.ForeignKey(
        Scan,
        models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="sightings",
    )
    confidence = models.FloatField(help_text="Probability of the prediction, 0-1")
    p_true = models.FloatField(help_text="Probability of the true label, 0-1")
    margin = models.FloatField(help_text="First minus second probability, 0-1")
    loss = models.FloatField(help_text="Cross entropy in nats")
    top_labels = ArrayField(
        models.BigIntegerField(), help_text="Label ids, surest first"
    )
    top_probs = ArrayField(models.FloatField())

    def __str__(self) -> str:
        return f"{self.finding} in {self.scan}"
