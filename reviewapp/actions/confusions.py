"""The ledger follows from the findings; each change of state is an event."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import astuple, dataclass
from typing import Any

from django.db import connection
from django.utils import timezone
from psycopg.types.json import Jsonb

from reviewapp.copying import copy_rows
from reviewapp.models import (
    Confusion,
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


@dataclass(frozen=True, slots=True)
class Line:
    """What changes in a line of the ledger; as it is before the line is there."""

    state: str = ""
    present: int = 0
    peak: int = 0
    last_scan: int | None = None


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
) -> int:
    """Bring ledger lines in line with the findings; call it inside a transaction.

    Args:
        dataset: Whose ledger.
        model: Whose predictions.
        scan: The scan that just ended, for first seen, last seen and the peak.
        pairs: Only these (true, predicted) label ids; None: all.

    Returns:
        How many changes of state were recorded.
    """
    lines = _lock_lines(dataset, model, pairs)
    # Counted after the locks: what another update has just committed is seen.
    standings = _standings(dataset, model, pairs)
    counts = _counts(scan)
    touched = []
    for pair, standing in standings.items():
        old = lines.get(pair) or Line(last_scan=scan.pk if scan else None)
        counted = scan is not None and pair in counts
        line = Line(
            state=next_state(old.state, standing),
            present=standing.present,
            peak=max(old.peak, counts.get(pair, 0)),
            last_scan=scan.pk if scan and counted else old.last_scan,
        )
        if line != old:
            touched.append((pair, line))
    ids = _save(dataset, model, scan, touched)
    now = timezone.now()
    changes = [
        (ids[pair], scan and scan.pk, was, line.state, evidence, now)
        for pair, line in touched
        if line.state != (was := lines[pair].state if pair in lines else "")
        for evidence in (Jsonb(_evidence(standings[pair], counts.get(pair))),)
    ]
    return copy_rows(
        "reviewapp_confusionevent", list(EVENT), list(EVENT.values()), changes
    )


# A scan of a thousand classes may change tens of thousands of lines at once.
EVENT = {
    "confusion_id": "int8",
    "scan_id": "int8",
    "old_state": "text",
    "new_state": "text",
    "evidence": "jsonb",
    "created_at": "timestamptz",
}


def _lock_lines(
    dataset: Dataset, model: RegisteredModel, pairs: Collection[Pair] | None
) -> dict[Pair, Line]:
    """Lock ledger lines in id order, so that two updates cannot block each other."""
    lines = Confusion.objects.for_dataset(dataset).of_model(model)
    if pairs is not None:
        lines = lines.of_pairs(pairs)
    rows = lines.select_for_update(of=("self",)).order_by("id")
    fields = ("state", "present", "peak", "last_scan_id")
    return {
        (true, predicted): Line(*values)
        for true, predicted, *values in rows.values_list(
            "true_label_id", "predicted_label_id", *fields
        )
    }


def _save(
    dataset: Dataset,
    model: RegisteredModel,
    scan: Scan | None,
    lines: list[tuple[Pair, Line]],
) -> dict[Pair, int]:
    """Write new and changed lines in one statement and return their ids."""
    rows = [(*pair, *astuple(line)) for pair, line in lines]
    columns = zip(*rows, strict=True) if rows else [[]] * 6
    names = ("true", "predicted", "state", "present", "peak", "last")
    values: dict[str, Any] = dict(zip(names, map(list, columns), strict=True))
    values |= {"dataset": dataset.pk, "model": model.pk, "first": scan and scan.pk}
    with connection.cursor() as cursor:
        cursor.execute(SAVE_LINES, values)
        return {(true, predicted): pk for pk, true, predicted in cursor.fetchall()}


# On conflict also for a line that another update has made since the locks were taken.
SAVE_LINES = """
INSERT INTO reviewapp_confusion AS c
       (dataset_id, registered_model_id, true_label_id, predicted_label_id, state,
        present, peak, first_scan_id, last_scan_id, updated_at)
SELECT %(dataset)s, %(model)s, n.t, n.p, n.state, n.present, n.peak,
       %(first)s, n.last, statement_timestamp()
  FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[], %(state)s::text[],
              %(present)s::int[], %(peak)s::int[], %(last)s::bigint[])
       AS n (t, p, state, present, peak, last)
 ORDER BY n.t, n.p
ON CONFLICT (dataset_id, registered_model_id, true_label_id, predicted_label_id)
DO UPDATE SET state = excluded.state, present = excluded.present, peak = excluded.peak,
              last_scan_id = excluded.last_scan_id, updated_at = excluded.updated_at
RETURNING id, true_label_id, predicted_label_id
"""


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
       count(e.finding_id)
  FROM reviewapp_finding f
  LEFT JOIN (SELECT DISTINCT i.finding_id
               FROM reviewapp_fixitem i
               JOIN reviewapp_export e
                 ON e.fix_set_id = i.fix_set_id AND e.state = 'done') e
    ON e.finding_id = f.id
 WHERE f.dataset_id = %(dataset)s AND f.registered_model_id = %(model)s
   AND f.kind = 'misclassified'
   AND (%(all)s OR (f.true_label_id, f.predicted_label_id) IN (
         SELECT * FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[])))
 GROUP BY f.true_label_id, f.predicted_label_id
"""
