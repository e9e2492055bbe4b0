"""Whether going on with a queue is likely to be worth it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef

from mining.statistics import wilson
from reviewapp.models import Finding, Review, Standing, Undo, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reviewapp.actions.queues import Queue
    from reviewapp.models import Dataset, User
    from reviewapp.models.reviews import ReviewQuerySet

LAST = 50  # verdicts that the share is of
SEEN = 200  # newest ones to find them among: what is looked at stays bounded
LOOKED_AT = 20_000  # newest ones of all, to find a person's own among
# A confusion whose share of useful verdicts is surely below this is called exhausted.
WORTH_FROM = 0.3
USEFUL = (Verdict.CONFIRM, Verdict.RELABEL)


@dataclass(frozen=True, slots=True)
class Worth:
    """The share of useful verdicts among the last ones of a queue.

    Attributes:
        useful: Confirmed or relabelled, and not undone.
        of: Verdicts looked at, at most `LAST`.
        low: Lower end of the 95 % interval of the share, 0-1.
        high: Upper end.
        next_pair: Where to go on, when this queue is one confusion and exhausted.
    """

    useful: int
    of: int
    low: float
    high: float
    next_pair: Standing | None

    @property
    def is_low(self) -> bool:
        """Whether the rest is unlikely to be worth it."""
        return self.high < WORTH_FROM

    @property
    def says(self) -> str:
        """Return the share in words; "" while there is nothing to warn of."""
        if not self.is_low:
            return ""
        share = self.useful / self.of
        text = (
            f"{self.useful} of the last {self.of} were useful ({share:.0%}, "
            f"{self.low:.0%} to {self.high:.0%}): the rest may not be worth it."
        )
        if self.next_pair is None:
            return text
        pair = self.next_pair
        return (
            f"{text} Next: {pair.true_label} → {pair.predicted_label}, "
            f"{pair.waiting:,} waiting."
        )


def worth_of(dataset: Dataset, user: User, queue: Queue) -> Worth:
    """Return how useful the last verdicts of a queue were.

    They are the last 50 of the queue among the person's own newest 200 and the newest
    200 of all: what is read does not grow. Flags say nothing and are left out.

    Args:
        dataset: The queue's.
        user: Who goes through it.
        queue: A confusion, or anything wider.
    """
    newest = list(_newest(Review.objects.all()))
    # Without an end, a person's first verdicts would be looked for among all there are.
    end = newest[0][0] - LOOKED_AT if newest else 0
    own = _newest(Review.objects.for_dataset(dataset).by(user).filter(pk__gt=end))
    given = {row[0]: row for row in [*newest, *own]}
    counted = [given[pk] for pk in sorted(given, reverse=True)]
    findings = {finding for _, finding, _, _ in counted}
    there = set(
        queue.findings.order_by().filter(pk__in=findings).values_list("pk", flat=True)
    )
    verdicts = [
        verdict
        for _, finding, verdict, is_undone in counted
        if finding in there and not is_undone and verdict != Verdict.FLAG
    ][:LAST]
    useful = sum(verdict in USEFUL for verdict in verdicts)
    share = wilson(useful, len(verdicts))
    low = share.high < WORTH_FROM
    return Worth(
        useful=useful,
        of=len(verdicts),
        low=share.low,
        high=share.high,
        next_pair=_next_pair(dataset, queue) if low else None,
    )


def _newest(reviews: ReviewQuerySet) -> Iterable[tuple[int, int, str, bool]]:
    """Return the newest reviews: id, finding id, verdict, whether it was undone."""
    undone = Exists(Undo.objects.filter(review=OuterRef("pk")))
    rows = reviews.newest_first().annotate(is_undone=undone)
    return rows.values_list("pk", "finding_id", "verdict", "is_undone")[:SEEN]


def _next_pair(dataset: Dataset, queue: Queue) -> Standing | None:
    """Return the next smaller confusion with something waiting, else the largest."""
    if not {"true_label", "predicted_label"} <= queue.fields.keys():
        return None
    here = queue.standings().most_frequent_first()
    others = (
        Standing.objects.for_dataset(dataset)
        .filter(kind=Finding.Kind.MISCLASSIFIED, waiting__gt=0)
        .exclude(pk__in=here.order_by())
        .select_related("true_label", "predicted_label")
        .most_frequent_first()
    )
    smaller = others.filter(present__lte=here.values("present")[:1])
    return smaller.first() or others.first()
