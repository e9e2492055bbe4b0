"""Reading the queue that a form or an address names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from reviewapp.actions.queues import PAIR_FIELDS, Lane, Order, Queue, in_lane
from reviewapp.exceptions import Refused
from reviewapp.filters import FindingFilter
from reviewapp.models import Dataset, Finding, Ranker

if TYPE_CHECKING:
    from django import forms

    from reviewapp.models.findings import FindingQuerySet

__all__ = ["QUEUE_FIELDS", "Lane", "Order", "Queue", "in_words", "read_queue"]

# A queue holds what waits, so the filters on review, presence and cause say nothing here.
QUEUE_FIELDS = (
    "true_label",
    "predicted_label",
    "registered_model",
    "split",
    "p_true_below",
    "confidence_from",
    "confidence_to",
    "key",
)


def read_queue(dataset: Dataset, data: Mapping[str, str]) -> Queue:
    """Return the queue that fields or a query string name; by default every error.

    Besides the filters: `lane` and `order`; `kind` = near_miss names that lane, too.

    Raises:
        Refused: A field names what the data set does not have.
    """
    fields = {name: data[name] for name in QUEUE_FIELDS if data.get(name)}
    lane = _lane(data)
    order = _order(dataset, data, lane)
    findings, cleaned = _chosen(dataset, fields)
    # A form reads "٣" and " 3 " as 3; statements of the queue's own take digits alone.
    fields |= {name: str(cleaned[name].pk) for name in PAIR_FIELDS if name in fields}
    if lane:
        fields["lane"] = lane.value
    if order is not Order.usual(lane):
        fields["order"] = order.value
    return Queue(
        dataset=dataset,
        findings=in_lane(findings, dataset, lane),
        fields=fields,
        lane=lane,
        order=order,
        title=_title(cleaned, lane),
    )


def _chosen(
    dataset: Dataset, fields: dict[str, str]
) -> tuple[FindingQuerySet, dict[str, Any]]:
    """Return the findings that fields name, and what each field means."""
    findings = Finding.objects.for_dataset(dataset)
    if not fields:  # at most verdicts; a form takes longer than what follows
        return findings, {}
    chosen = FindingFilter(fields, queryset=findings, dataset=dataset)
    if not chosen.is_valid():
        raise Refused(
            f"This queue is not possible: {in_words(chosen.form)} Nothing was changed. "
            "Start from the review page."
        )
    return cast("FindingQuerySet", chosen.qs), chosen.form.cleaned_data


def _lane(data: Mapping[str, str]) -> Lane:
    if not data.get("lane") and data.get("kind") == Finding.Kind.NEAR_MISS:
        return Lane.NEAR_MISS
    lane = data.get("lane", "")
    if lane not in Lane.values:
        raise Refused(f"There is no lane {lane!r}. Start from the review page.")
    return Lane(lane)


def _order(dataset: Dataset, data: Mapping[str, str], lane: Lane) -> Order:
    order = data.get("order") or Order.usual(lane).value
    if order not in Order.values:
        raise Refused(f"There is no order {order!r}. Start from the review page.")
    if order == Order.LEARNED and not (
        Ranker.objects.filter(registered_model__dataset=dataset, is_used=True).exists()
    ):
        return Order.usual(lane)  # an address from when it was used
    return Order(order)


def _title(chosen: dict[str, Any], lane: Lane) -> str:
    errors = {Lane.LABEL: "errors, lane label?", Lane.MODEL: "errors, lane model"}
    parts = [errors.get(lane, lane.label)]
    true, predicted = chosen.get("true_label"), chosen.get("predicted_label")
    if true or predicted:
        parts.insert(0, f"{true or 'any'} → {predicted or 'any'}")
    below, key = chosen.get("p_true_below"), chosen.get("key")
    low, high = chosen.get("confidence_from"), chosen.get("confidence_to")
    ends = f"{0 if low is None else low} to {1 if high is None else high}"
    others = (
        chosen.get("registered_model"),
        chosen.get("split"),
        below is not None and f"p(true) below {below}",
        (low is not None or high is not None) and f"confidence {ends}",
        key and f"file name with “{key}”",
    )
    return ", ".join([*parts, *(str(other) for other in others if other)])


def in_words(form: forms.Form) -> str:
    """Return what is wrong with a form in one line."""
    return " ".join(
        f"{form.fields[name].label or name}: {error}"
        if name in form.fields
        else str(error)
        for name, errors in form.errors.items()
        for error in errors
    )
