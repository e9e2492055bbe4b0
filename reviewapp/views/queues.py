"""The queue page: what waits for a verdict, in lanes, by confusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.db.models import Sum
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset
from reviewapp.models import Dataset, Finding, Ranker, Skip, Standing
from reviewapp.queues import Lane, Order, Queue, read_queue
from reviewapp.ranking import ranker_sentence
from reviewapp.views.desk import counted_in
from reviewapp.views.requests import UserRequest

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet

LISTED = 100  # confusions
KEPT = ("lane", "order")  # what is chosen here and holds for a row, too


@dataclass(frozen=True, slots=True)
class Row:
    """One confusion, or one class's near misses, that waits."""

    standing: Standing
    pair: str
    share: float  # of the most that wait in one, 0-1
    query: str  # names its queue, in the lane and order that are chosen


@dataclass(frozen=True, slots=True)
class Tab:
    """One lane of the queue page."""

    name: str
    text: str
    is_current: bool
    waiting: int | None  # None: not counted


@require_GET
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show what waits for a verdict, and what of it is free for this reviewer."""
    dataset = access_dataset(request.user, slug)
    queue = read_queue(dataset, request.GET)
    waiting: FindingQuerySet = Finding.objects.for_dataset(dataset).waiting()
    of_kind = _waiting_by_kind(dataset)
    counted = counted_in(queue)
    has_models = dataset.registered_models.count() > 1
    rankers = Ranker.objects.filter(registered_model__dataset=dataset)
    context = {
        "dataset": dataset,
        "queue": queue,
        "tabs": _tabs(queue, of_kind),
        "orders": _orders(queue, is_learned=any(r.is_used for r in rankers)),
        "learned": [
            ranker_sentence(ranker.registered_model)
            for ranker in rankers.select_related("registered_model")
        ],
        "free": queue.left_for(request.user, counted + 1),
        "counted": counted,
        "skipped": _skipped(queue, request.user),
        "mine": waiting.held_by(request.user).count(),
        "holders": waiting.held_by_others(request.user).count_by_holder(),
        "rows": _rows(queue, with_model=has_models),
        "listed": LISTED,
        "is_near_miss": queue.lane is Lane.NEAR_MISS,
        "has_models": has_models,
    }
    return render(request, "review/index.html", context)


def _skipped(queue: Queue, user: User) -> int:
    """Count what waits in a queue that this reviewer has put off."""
    skips = Skip.objects.filter(reviewer=user, finding__dataset=queue.dataset)
    # Few, and read first: for a subquery all findings might be read.
    ids = list(skips.values_list("finding_id", flat=True))
    return queue.findings.waiting().filter(pk__in=ids).count() if ids else 0


def _waiting_by_kind(dataset: Dataset) -> dict[str, int]:
    rows = Standing.objects.for_dataset(dataset).order_by().values_list("kind")
    return dict(rows.annotate(n=Sum("waiting")))


def _tabs(queue: Queue, of_kind: dict[str, int]) -> list[Tab]:
    counted = {Lane.ALL: "misclassified", Lane.NEAR_MISS: "near_miss"}
    return [
        Tab(
            name=lane.value,
            text=lane.label,
            is_current=lane is queue.lane,
            waiting=of_kind.get(counted[lane], 0) if lane in counted else None,
        )
        for lane in Lane
    ]


def _orders(queue: Queue, *, is_learned: bool) -> list[tuple[str, str, bool]]:
    """Return (value, text, whether it is chosen) of the orders that can be had."""
    return [
        (order.value, order.label, order is queue.order)
        for order in Order
        if is_learned or order is not Order.LEARNED
    ]


def _rows(queue: Queue, *, with_model: bool) -> list[Row]:
    standings = list(
        Standing.objects.for_dataset(queue.dataset)
        .filter(kind=queue.lane.kind)
        .waiting()
        .select_related("true_label", "predicted_label", "registered_model")
        .most_frequent_first()[:LISTED]
    )
    most = max((standing.waiting for standing in standings), default=1)
    chosen = {name: queue.fields[name] for name in KEPT if name in queue.fields}
    return [
        Row(
            standing=one,
            pair=f"{one.true_label} → {one.predicted_label}",
            share=one.waiting / most,
            query=urlencode(_fields(one, with_model=with_model) | chosen),
        )
        for one in standings
    ]


def _fields(standing: Standing, *, with_model: bool) -> dict[str, object]:
    fields: dict[str, object] = {
        "true_label": standing.true_label_id,
        "predicted_label": standing.predicted_label_id,
    }
    if with_model:
        fields["registered_model"] = standing.registered_model_id
    return fields
