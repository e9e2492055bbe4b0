"""A queue: the findings of a data set that a reviewer goes through, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.db.models import (
    Case,
    Exists,
    Max,
    Min,
    OuterRef,
    Subquery,
    Sum,
    TextChoices,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from reviewapp.models import Claim, Dataset, Finding, Opinion, Skip, Standing

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet
    from reviewapp.models.standings import StandingQuerySet

# What names confusions, and nothing narrower.
PAIR_FIELDS = ("true_label", "predicted_label", "registered_model")
# Probabilities come from float32: p(true) + confidence may exceed 1 by this much.
ROUNDING = 1e-6


class Lane(TextChoices):
    """Why a finding is in a queue."""

    ALL = "", "errors"
    LABEL = "label", "label?"  # the label is probably wrong
    MODEL = "model", "model"  # the model is weak
    NEAR_MISS = "near_miss", "near misses"

    @property
    def kind(self) -> Finding.Kind:
        """Return the kind of the lane's findings."""
        kinds = Finding.Kind
        return kinds.NEAR_MISS if self is Lane.NEAR_MISS else kinds.MISCLASSIFIED


class Order(TextChoices):
    """What a queue hands out first.

    Usual is the most valuable first. Where labels are doubted it is the likeliest wrong
    label first: of the first hundred 95 to 99 % were wrong labels there, against 14 to 60 %
    by value, which puts the errors of large confusions first (`docs/benchmarks.md`).
    """

    VALUE = "value", "most valuable first"  # size of the confusion x (1 - p_true)
    HARDEST = "hardest", "hardest first"
    NEWEST = "newest", "newest first"
    DOUBTED = (
        "doubted",
        "likeliest wrong label first",
    )  # surest or hardest, by the model
    SUREST = "surest", "surest first"
    LEAST_SURE = "least_sure", "least sure first"
    RANDOM = "random", "random"
    BACK = "back", "back after a fix first"
    LEARNED = "learned", "learned from your team"

    @classmethod
    def usual(cls, lane: Lane) -> Order:
        """Return the order of a lane when none is chosen."""
        return cls.DOUBTED if lane is Lane.LABEL else cls.VALUE


@dataclass(frozen=True, slots=True)
class Queue:
    """The findings of a data set that a reviewer goes through.

    Attributes:
        dataset: Whose findings.
        findings: Those of the queue, reviewed ones too.
        fields: The form fields that name the queue; what is not named is the default.
        lane: Only these; the lane is in `findings` already.
        order: What is handed out first.
        title: The queue in words.
    """

    dataset: Dataset
    findings: FindingQuerySet
    fields: dict[str, str]
    lane: Lane
    order: Order
    title: str

    @property
    def query(self) -> str:
        """Return the query string that names this queue."""
        return urlencode(self.fields)

    @property
    def is_plain(self) -> bool:
        """Whether nothing but confusions, a lane and an order is chosen."""
        return not set(self.fields) - {*PAIR_FIELDS, "lane", "order"}

    @property
    def is_whole(self) -> bool:
        """Whether every finding of a kind is in it."""
        is_split = self.lane in (Lane.LABEL, Lane.MODEL)
        return not is_split and not set(self.fields) - {"lane", "order"}

    def free_for(self, user: User) -> FindingQuerySet:
        """Return what this reviewer would be handed out, in no order."""
        free = self.findings.waiting().not_held_by_others(user).not_skipped_by(user)
        return not_judged_by(free, self.dataset, user)

    def untouched_for(self, user: User) -> FindingQuerySet:
        """Return what is free and nobody holds, to be read in an index's order.

        What is left out is looked up row by row until there are enough: joins would be
        made for all rows first, wherever the planner takes a confusion for a small one.
        In a CASE the lookups are not made joins.
        """
        here = OuterRef("pk")
        held = Claim.objects.filter(finding=here, expires_at__gt=timezone.now())
        out = [held, Skip.objects.filter(finding=here, reviewer=user)]
        if self.dataset.overlap > 1:
            out.append(Opinion.objects.of_row(user))
        cases = (Case(When(Exists(rows), then=False), default=True) for rows in out)
        return self.findings.waiting().filter(*cases)

    def left_for(self, user: User, limit: int) -> int:
        """Count what is free for this reviewer, up to `limit`.

        Where only confusions are chosen it comes from the standings: it costs the same
        however many there are.
        """
        is_split = self.lane in (Lane.LABEL, Lane.MODEL)
        if is_split or not self.is_plain:
            return self.free_for(user).count_up_to(limit)
        held = Claim.objects.filter(
            finding__dataset=self.dataset, expires_at__gt=timezone.now()
        ).exclude(reviewer=user)
        gone = [
            Skip.objects.filter(reviewer=user, finding__dataset=self.dataset),
            Opinion.objects.by(user).filter(
                finding__dataset=self.dataset, review__isnull=True
            ),
        ]
        # Few, and read first: for a subquery all findings might be read.
        found = [rows.values_list("finding_id", flat=True) for rows in (held, *gone)]
        ids = list(found[0].union(*found[1:]))
        away = self.findings.waiting().filter(pk__in=ids).count()
        return max(0, min(limit, self.waiting() - away))

    def standings(self) -> StandingQuerySet:
        """Return the standings of the confusions that the queue goes through."""
        pair = {name: self.fields[name] for name in PAIR_FIELDS if name in self.fields}
        return Standing.objects.for_dataset(self.dataset).filter(
            kind=self.lane.kind, **pair
        )

    def waiting(self) -> int:
        """Return how many wait in its confusions, from the standings."""
        total: int = self.standings().aggregate(n=Coalesce(Sum("waiting"), 0))["n"]
        return total


def not_judged_by(
    findings: FindingQuerySet, dataset: Dataset, user: User
) -> FindingQuerySet:
    """Leave out what this reviewer gave a blind opinion on, as it is now."""
    if dataset.overlap < 2:
        return findings
    return findings.exclude(Exists(Opinion.objects.of_row(user)))


def in_lane(findings: FindingQuerySet, dataset: Dataset, lane: Lane) -> FindingQuerySet:
    """Keep the findings of one lane, by where its confusion's lane label? begins."""
    findings = findings.filter(kind=lane.kind)
    if lane not in (Lane.LABEL, Lane.MODEL):
        return findings
    begins = Subquery(
        Standing.objects.filter(
            registered_model=OuterRef("registered_model"),
            true_label=OuterRef("true_label"),
            predicted_label=OuterRef("predicted_label"),
        ).values("label_from")
    )
    # What holds for all confusions is implied, but an index can begin or end there.
    all_begin = (
        Standing.objects.for_dataset(dataset)
        .filter(kind=lane.kind, waiting__gt=0)
        .order_by()
        .values("kind")
        .annotate(first=Min("label_from"), last=Max("label_from"))
    )
    if lane is Lane.MODEL:
        last = Subquery(all_begin.values("last"))
        return findings.filter(confidence__lt=begins).filter(confidence__lt=last)
    first = Subquery(all_begin.values("first"))
    return findings.filter(confidence__gte=begins).filter(
        confidence__gte=first, priority__gte=first - ROUNDING
    )
