"""The ledger follows from the findings; each change of state is an event."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import connection

from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Dataset,
    RegisteredModel,
    Scan,
)

State = Confusion.State
Pair = tuple[int, int]  # true label id, predicted label id


@dataclass(frozen=True, slots=True)
class Standing:
    """What the findings of one confusion say together."""

    present: int  # errors that the last scans still saw
    waiting: int  # of these, without a verdict
    reviewed: int  # findings with a standing verdict
    exported: int  # findings that a frozen, exported fix set holds


def next_state(old: str, now: Standing) -> Confusion.State:
    """Return the state that follows from the findings.

    Fixed: no error of the pair is left in what was scanned. Back: errors again after
    fixed, until a new fix is exported.
    """
    if not now.present:
        return State.FIXED
    if now.exported and not now.waiting:
        return State.FIX_EXPORTED
    if old in (State.FIXED, State.REGRESSED):
        return State.REGRESSED
    return State.IN_REVIEW if now.reviewed else State.OPEN


def update_ledger(
    *,
    dataset: Dataset,
    model: RegisteredModel,
    scan: Scan | None = None,
    pairs: Collection[Pair] | None = None,
) -> list[ConfusionEvent]:
    """Bring ledger lines in line with the findings; call it inside a transaction.

    Args:
        dataset: Whose ledger.
        model: Whose predictions.
        scan: The scan that just ended, for first seen, last seen and the peak.
        pairs: Only these (true, predicted) label ids; None: all.

    Returns:
        The state changes that were recorded.
    """
    lines = _lock_lines(dataset, model, pairs)
    # Counted after the locks: what another update has just committed is seen.
    standings = _standings(dataset, model, pairs)
    counts = _counts(scan)
    events = []
    for pair, standing in standings.items():
        line = lines.get(pair)
        old = line.state if line else ""
        state = next_state(old, standing)
        line = line or _new_line(dataset, model, pair, scan)
        line.state, line.present = state, standing.present
        if pair in counts:
            line.peak = max(line.peak, counts[pair])
            line.last_scan = scan
        lines[pair] = line
        if state != old:
            events.append((line, old, _evidence(standing, counts.get(pair))))
    touched = [lines[pair] for pair in standings]
    _save(touched)
    return ConfusionEvent.objects.bulk_create(
        [
            ConfusionEvent(
                confusion=line,
                scan=scan,
                old_state=old,
                new_state=line.state,
                evidence=evidence,
            )
            for line, old, evidence in events
        ]
    )


def _lock_lines(
    dataset: Dataset, model: RegisteredModel, pairs: Collection[Pair] | None
) -> dict[Pair, Confusion]:
    """Lock ledger lines in id order, so that two updates cannot block each other."""
    lines = Confusion.objects.for_dataset(dataset).of_model(model)
    if pairs is not None:
        lines = lines.of_pairs(pairs)
    return {
        (line.true_label_id, line.predicted_label_id): line
        for line in lines.select_for_update(of=("self",)).order_by("id")
    }


def _new_line(
    dataset: Dataset, model: RegisteredModel, pair: Pair, scan: Scan | None
) -> Confusion:
    return Confusion(
        dataset=dataset,
        registered_model=model,
        true_label_id=pair[0],
        predicted_label_id=pair[1],
        present=0,
        peak=0,
        first_scan=scan,
        last_scan=scan,
    )


def _save(lines: list[Confusion]) -> None:
    fields = ["state", "present", "peak", "last_scan"]
    identity = ["dataset", "registered_model", "true_label", "predicted_label"]
    Confusion.objects.bulk_create(
        lines,
        batch_size=1000,
        update_conflicts=True,
        update_fields=[*fields, "updated_at"],
        unique_fields=identity,
    )


def _evidence(standing: Standing, count: int | None) -> dict[str, Any]:
    return {
        "present": standing.present,
        "waiting": standing.waiting,
        "reviewed": standing.reviewed,
        "count_in_scan": count,
    }


def _counts(scan: Scan | None) -> dict[Pair, int]:
    if scan is None:
        return {}
    rows = scan.confusion_counts.values_list(
        "true_label_id", "predicted_label_id", "count"
    )
    return {(true, predicted): n for true, predicted, n in rows if true != predicted}


def _standings(
    dataset: Dataset, model: RegisteredModel, pairs: Collection[Pair] | None
) -> dict[Pair, Standing]:
    with connection.cursor() as cursor:
        cursor.execute(
            STANDINGS,
            {
                "dataset": dataset.pk,
                "model": model.pk,
                "all": pairs is None,
                "true": [true for true, _ in pairs or ()],
                "predicted": [predicted for _, predicted in pairs or ()],
            },
        )
        return {(row[0], row[1]): Standing(*row[2:]) for row in cursor.fetchall()}


STANDINGS = """
SELECT f.true_label_id, f.predicted_label_id,
       count(*) FILTER (WHERE f.presence IN ('seen', 'regressed')),
       count(*) FILTER (WHERE f.presence IN ('seen', 'regressed')
                          AND f.review_state = 'open'),
       count(*) FILTER (WHERE f.review_state <> 'open'),
       count(*) FILTER (WHERE EXISTS (
         SELECT FROM reviewapp_fixitem i
           JOIN reviewapp_export e ON e.fix_set_id = i.fix_set_id AND e.state = 'done'
          WHERE i.finding_id = f.id))
  FROM reviewapp_finding f
 WHERE f.dataset_id = %(dataset)s AND f.registered_model_id = %(model)s
   AND f.kind = 'misclassified'
   AND (%(all)s OR (f.true_label_id, f.predicted_label_id) IN (
         SELECT * FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[])))
 GROUP BY f.true_label_id, f.predicted_label_id
"""
