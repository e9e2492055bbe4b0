"""The orders of a queue: which free findings come next.

Each reads a bounded number of rows from an index, however many findings wait.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection
from django.db.models import F, Max, Min, OuterRef
from django.db.models.functions import JSONObject

from reviewapp.actions.queues import PAIR_FIELDS, ROUNDING, Lane, Order, Queue
from reviewapp.models import Finding, Ranker, RegisteredModel, Standing
from reviewapp.ranking import scores
from reviewapp.rows import fetch

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet

FIRST_LOOK: Final = 4  # confusions; four times as many each time that these do not do
RANKED: Final = 200  # findings that the learned order looks at
PLACES: Final = 8  # random places to look at


@dataclass(frozen=True, slots=True)
class Found:
    """The most valuable free findings of the largest confusions of a queue.

    Attributes:
        ids: Of the findings, the most valuable first.
        values: Size of the confusion x (1 - p_true) of each.
        confusions: How many were looked at.
        smallest: The size of the smallest of these.
    """

    ids: list[int]
    values: list[float]
    confusions: int
    smallest: int


def next_ids(queue: Queue, by: User, limit: int) -> list[int]:
    """Return the next findings that nobody holds, by id, in the queue's order."""
    if queue.order is Order.VALUE and queue.is_plain:
        return _most_valuable(limit, partial(_look_plainly, queue, by, limit))
    return ORDERS[queue.order](queue, queue.untouched_for(by), limit)


def _by(*fields: str) -> Callable[[Queue, FindingQuerySet, int], list[int]]:
    def read(queue: Queue, free: FindingQuerySet, limit: int) -> list[int]:
        return list(free.order_by(*fields).values_list("pk", flat=True)[:limit])

    return read


def _by_value(queue: Queue, free: FindingQuerySet, limit: int) -> list[int]:
    return _most_valuable(limit, partial(_look, queue, free, limit))


def _most_valuable(limit: int, look: Callable[[int], Found]) -> list[int]:
    """Return the highest products of the confusion's size and 1 - p_true.

    The hardest of the largest confusions are looked at. A finding's value is at most the
    size of its confusion: when the last one found is worth as much as the smallest
    confusion looked at, nothing better is left out.

    Args:
        limit: How many to return.
        look: Number of confusions -> what is found in the largest ones.
    """
    size = FIRST_LOOK
    while True:
        found = look(size)
        is_enough = len(found.ids) == limit and found.values[-1] >= found.smallest
        if is_enough or found.confusions < size:
            return found.ids
        size *= 4


def _look(queue: Queue, free: FindingQuerySet, limit: int, size: int) -> Found:
    """Look at the largest confusions of a queue for their hardest free findings."""
    hardest = free.filter(
        true_label=OuterRef("true_label"),
        predicted_label=OuterRef("predicted_label"),
        registered_model=OuterRef("registered_model"),
    )
    if queue.lane is Lane.LABEL:  # implied, but an index can begin there
        hardest = hardest.filter(priority__gte=OuterRef("label_from") - ROUNDING)
    row = JSONObject(id=F("pk"), priority=F("priority"))
    rows = hardest.hardest_first().values_list(row)[:limit]
    standings = queue.standings().waiting().most_frequent_first()
    looked = standings.annotate(hardest=ArraySubquery(rows))[:size]
    pairs = list(looked.values_list("present", "hardest"))
    found = [
        (present * row["priority"], row["id"])
        for present, hardest in pairs
        for row in hardest or ()
    ]
    best = sorted(found, reverse=True)[:limit]
    return Found(
        ids=[pk for _, pk in best],
        values=[value for value, _ in best],
        confusions=len(pairs),
        smallest=pairs[-1][0] if pairs else 0,
    )


def _look_plainly(queue: Queue, by: User, limit: int, size: int) -> Found:
    """Return what `_look` returns, where the queue has no filter but a confusion's.

    At every verdict: as a statement of its own it takes an eighth of the time that
    Django needs to put it together.
    """
    values: dict[str, Any] = {**queue.fields, "dataset": queue.dataset.pk}
    values |= {"kind": queue.lane.kind.value, "by": by.pk}
    values |= {"lane": queue.lane.value, "blind": queue.dataset.overlap > 1}
    pair = [name for name in PAIR_FIELDS if name in queue.fields]
    statement = LOOK.format(
        # A plan is good for numbers that it knows, and for conditions that are there.
        size=int(size),
        limit=int(limit),
        pair="".join(f" AND s.{name}_id = %({name})s::bigint" for name in pair),
    )
    if queue.is_whole:
        return Found(*fetch(statement, values)[0])
    with connection.cursor() as cursor:  # a plan for this confusion alone
        cursor.execute(statement, values)
        return Found(*cursor.fetchone())


LOOK = """
WITH s AS MATERIALIZED (
  SELECT * FROM reviewapp_standing s
   WHERE s.dataset_id = %(dataset)s AND s.kind = %(kind)s AND s.waiting > 0{pair}
   ORDER BY s.present DESC, s.id DESC LIMIT {size}
), best AS MATERIALIZED (
  SELECT f.id, s.present * f.priority AS value
    FROM s CROSS JOIN LATERAL (
         SELECT f.id, f.priority FROM reviewapp_finding f
          WHERE f.dataset_id = %(dataset)s AND f.true_label_id = s.true_label_id
            AND f.predicted_label_id = s.predicted_label_id
            AND f.registered_model_id = s.registered_model_id
            AND f.review_state = 'open' AND f.presence IN ('seen', 'regressed')
            AND (%(lane)s <> 'label' OR f.confidence >= s.label_from)
            AND (%(lane)s <> 'model' OR f.confidence < s.label_from)
            AND f.priority >= CASE WHEN %(lane)s = 'label' THEN s.label_from - 1e-6
                                   ELSE 0 END
            AND CASE WHEN EXISTS (SELECT FROM reviewapp_claim c
                                   WHERE c.finding_id = f.id AND c.expires_at > now())
                       OR EXISTS (SELECT FROM reviewapp_skip k
                                   WHERE k.finding_id = f.id AND k.reviewer_id = %(by)s)
                       OR (%(blind)s AND EXISTS (
                           SELECT FROM reviewapp_opinion o
                            WHERE o.finding_id = f.id AND o.reviewer_id = %(by)s
                              AND o.finding_version = f.version))
                     THEN false ELSE true END
          ORDER BY f.priority DESC, f.id DESC LIMIT {limit}) f
   ORDER BY value DESC, f.id DESC LIMIT {limit}
)
SELECT ARRAY(SELECT id FROM best ORDER BY value DESC, id DESC),
       ARRAY(SELECT value FROM best ORDER BY value DESC, id DESC),
       (SELECT count(*) FROM s), coalesce((SELECT min(present) FROM s), 0)
"""


def _at_random(queue: Queue, free: FindingQuerySet, limit: int) -> list[int]:
    """Return findings from random places, which costs no count."""
    kind = Finding.objects.for_dataset(queue.dataset).filter(kind=queue.lane.kind)
    ends = kind.waiting().aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return []
    each = -(-limit // PLACES)
    first, *others = (
        free.filter(pk__gte=_place(ends["first"], ends["last"]))
        .order_by("pk")
        .values_list("pk", flat=True)[:each]
        for _ in range(min(limit, PLACES))
    )
    found = dict.fromkeys(first.union(*others) if others else first)
    if len(found) < limit:  # near the end, or few are left
        found |= dict.fromkeys(free.order_by("pk").values_list("pk", flat=True)[:limit])
    return list(found)[:limit]


def _place(first: int, last: int) -> int:
    return random.randint(first, last)  # noqa: S311 - no secret


def _back_first(queue: Queue, free: FindingQuerySet, limit: int) -> list[int]:
    back = free.filter(presence=Finding.Presence.REGRESSED).hardest_first()
    found = list(back.values_list("pk", flat=True)[:limit])
    if len(found) < limit:
        others = free.filter(presence=Finding.Presence.SEEN)
        found += _by_value(queue, others, limit - len(found))
    return found


def _doubted_first(queue: Queue, free: FindingQuerySet, limit: int) -> list[int]:
    """Return the likeliest wrong labels, in the order that its models' scans speak for."""
    models = RegisteredModel.objects.filter(dataset=queue.dataset)
    if "registered_model" in queue.fields:
        models = models.filter(pk=queue.fields["registered_model"])
    told = set(models.exclude(doubt_order="").values_list("doubt_order", flat=True))
    hardest = told == {RegisteredModel.DoubtOrder.HARDEST}
    return ORDERS[Order.HARDEST if hardest else Order.SUREST](queue, free, limit)


def _learned(queue: Queue, free: FindingQuerySet, limit: int) -> list[int]:
    """Return the most valuable ones, ranked again by what the team's verdicts say."""
    ids = _by_value(queue, free, max(limit, RANKED))
    by_id = Finding.objects.in_bulk(ids)
    rankers = Ranker.objects.filter(
        registered_model__dataset=queue.dataset, is_used=True
    )
    ranked: dict[int, float] = {}
    for ranker in rankers:
        findings = [
            finding
            for finding in by_id.values()
            if finding.registered_model_id == ranker.registered_model_id
        ]
        standings = Standing.objects.filter(registered_model=ranker.registered_model_id)
        pairs = {
            (standing.true_label_id, standing.predicted_label_id): standing
            for standing in standings.of_findings(findings)
        }
        numbers = scores(findings, pairs, ranker)
        ranked |= {f.pk: n for f, n in zip(findings, numbers, strict=True)}
    # What no ranking speaks of keeps its place behind.
    ids.sort(key=lambda pk: ranked.get(pk, float("-inf")), reverse=True)
    return ids[:limit]


ORDERS: Final[dict[Order, Callable[[Queue, Any, int], list[int]]]] = {
    Order.VALUE: _by_value,
    Order.HARDEST: _by("-priority", "-pk"),
    Order.NEWEST: _by("-pk"),
    Order.DOUBTED: _doubted_first,
    Order.SUREST: _by("-confidence", "-pk"),
    Order.LEAST_SURE: _by("confidence", "pk"),
    Order.RANDOM: _at_random,
    Order.BACK: _back_first,
    Order.LEARNED: _learned,
}
