"""The queue page: what waits for a verdict, in lanes, by confusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Sum
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from reviewapp.access import access_dataset
from reviewapp.models import Dataset, Finding, Ranker, Standing
from reviewapp.queues import Lane, Order, Queue, read_queue
from reviewapp.ranking import ranker_sentence
from reviewapp.views.desk import COUNTED
from reviewapp.views.requests import UserRequest

if TYPE_CHECKING:
    from reviewapp.models.findings import FindingQuerySet

LISTED = 100  # confusions


@dataclass(frozen=True, slots=True)
class Row:
    """One confusion, or one class's near misses, that waits."""

    standing: Standing
    share: float  # of the most that wait in one, 0-1


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
        "free": queue.left_for(request.user, COUNTED + 1),
        "counted": COUNTED,
        "skipped": queue.findings.waiting().skipped_by(request.user).count(),
        "mine": waiting.held_by(request.user).count(),
        "holders": waiting.held_by_others(request.user).count_by_holder(),
        "rows": _rows(dataset, queue.lane),
        "listed": LISTED,
        "is_near_miss": queue.lane is Lane.NEAR_MISS,
        "has_models": dataset.registered_models.count() > 1,
    }
    return render(request, "review/index.html", context)


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


def _rows(dataset: Dataset, lane: Lane) -> list[Row]:
    standings = list(
        Standing.objects.for_dataset(dataset)
        .filter(kind=lane.kind, waiting__gt=0)
        .select_related("true_label", "predicted_label", "registered_model")
        .most_frequent_first()[:LISTED]
    )
    most = max((standing.waiting for standing in standings), default=1)
    return [Row(standing, standing.waiting / most) for standing in standings]
