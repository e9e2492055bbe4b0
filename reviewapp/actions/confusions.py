"""The ledger follows from the findings; each change of state is an event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
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
from reviewapp.rows import fetch

State = Confusion.State
Pair = tuple[int, int]  # true label id, predicted label id


@dataclass(frozen=True, slots=True)
class Counts:
    """What the findings of one confusion say together."""

    present: int  # errors that the last scans still saw
    waiting: int  # of these, without a verdict
    reviewed: int  # findings with a standing verdict
    exported: bool  # whether a frozen, exported fix set holds any


@dataclass(frozen=True, slots=True)
class Line:
    """What changes in a line of the ledger; as it is before the line is there."""

    state: str = ""
    present: int = 0
    peak: int = 0
    last_scan: int | None = None


def next_state(old: str, now: Counts) -> Confusion.State:
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
    counts = _counts(scan)
    # Looked at without locks first: most verdicts change no line.
    now = _look(dataset, model, scan, pairs, counts)
    changing = {pair for pair, (old, line, _) in now.items() if line != old}
    if not changing:
        return 0
    _lock_lines(dataset, model, changing)
    # Read again behind the locks: what another update has just committed is seen.
    now = _look(dataset, model, scan, changing, counts)
    ids = _save(
        dataset, model, scan, {pair: line for pair, (_, line, _) in now.items()}
    )
    moment = timezone.now()
    changes = [
        (ids[pair], scan and scan.pk, old.state, line.state, evidence, moment)
        for pair, (old, line, standing) in now.items()
        if line.state != old.state
        for evidence in (Jsonb(_evidence(standing, counts.get(pair))),)
    ]
    return copy_rows(
        "reviewapp_confusionevent", list(EVENT), list(EVENT.values()), changes
    )


def _look(
    dataset: Dataset,
    model: RegisteredModel,
    scan: Scan | None,
    pairs: Collection[Pair] | None,
    counts: Mapping[Pair, int],
) -> dict[Pair, tuple[Line, Line, Counts]]:
    """Return each line as it is, as it should be, and why."""
    values: dict[str, Any] = {
        "dataset": dataset.pk,
        "model": model.pk,
        "true": [true for true, _ in pairs or ()],
        "predicted": [predicted for _, predicted in pairs or ()],
    }
    is_many = pairs is None or len(pairs) > MANY
    if is_many:
        with connection.cursor() as cursor:
            # The planner knows no sizes here and may take thousands of rows for one.
            cursor.execute("SET LOCAL enable_nestloop = off")
            cursor.execute(ALL_LINES, values)
            rows = cursor.fetchall()
    else:
        rows = fetch(SOME_LINES, values)
    found = {}
    for true, predicted, present, waiting, reviewed, exported, *stored in rows:
        pair = (true, predicted)
        if pairs is not None and pair not in pairs:
            continue
        standing = Counts(present, waiting, reviewed, exported)
        is_there = stored[0] is not None
        old = Line(*stored) if is_there else Line(last_scan=scan.pk if scan else None)
        is_counted = scan is not None and pair in counts
        line = Line(
            state=next_state(old.state, standing),
            present=present,
            peak=max(old.peak, counts.get(pair, 0)),
            last_scan=scan.pk if scan and is_counted else old.last_scan,
        )
        found[pair] = (old, line, standing)
    return found


def tell_ledger(
    *,
    dataset: Dataset,
    pairs: Iterable[tuple[int, int, int]],
    models: Mapping[int, RegisteredModel],
) -> None:
    """Bring the lines of findings that have just moved in line with them.

    Args:
        dataset: Whose ledger.
        pairs: (model id, true label id, predicted label id) of each finding.
        models: The models that are loaded already, by id.
    """
    by_model: defaultdict[int, set[Pair]] = defaultdict(set)
    for model, true, predicted in pairs:
        if true != predicted:  # near misses have no line
            by_model[model].add((true, predicted))
    unknown = RegisteredModel.objects.in_bulk(by_model.keys() - models.keys())
    for model, found in sorted(by_model.items()):
        known = models.get(model) or unknown[model]
        update_ledger(dataset=dataset, model=known, pairs=found)


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
    dataset: Dataset, model: RegisteredModel, pairs: Collection[Pair]
) -> None:
    """Lock ledger lines in id order, so that two updates cannot block each other."""
    lines = Confusion.objects.for_dataset(dataset).of_model(model).of_pairs(pairs)
    list(lines.select_for_update(of=("self",)).order_by("id").values_list("id"))


def _save(
    dataset: Dataset,
    model: RegisteredModel,
    scan: Scan | None,
    lines: Mapping[Pair, Line],
) -> dict[Pair, int]:
    """Write new and changed lines in one statement and return their ids."""
    rows = [(*pair, *astuple(line)) for pair, line in lines.items()]
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


def _evidence(standing: Counts, count: int | None) -> dict[str, Any]:
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


# The standings, with what is still to be added to them, beside the lines. In two forms:
# one plan would not do for one pair and for all.
_NOW = """
SELECT n.t, n.p, sum(n.present)::int, sum(n.waiting)::int, sum(n.reviewed)::int,
       bool_or(n.exported), c.state, c.present, c.peak, c.last_scan_id
  FROM ({standings}) AS n (t, p, present, waiting, reviewed, exported)
  LEFT JOIN reviewapp_confusion c
    ON c.dataset_id = %(dataset)s AND c.registered_model_id = %(model)s
   AND c.true_label_id = n.t AND c.predicted_label_id = n.p
 GROUP BY n.t, n.p, c.id
"""
MANY = 500  # pairs from which on reading all lines of a model is faster
ALL_LINES = _NOW.format(
    standings="""
  SELECT true_label_id, predicted_label_id, present, waiting, reviewed, is_exported
    FROM reviewapp_standing
   WHERE registered_model_id = %(model)s AND kind = 'misclassified'
  UNION ALL
  SELECT true_label_id, predicted_label_id, present, waiting, reviewed, false
    FROM reviewapp_standingchange
   WHERE registered_model_id = %(model)s AND true_label_id <> predicted_label_id"""
)
SOME_LINES = _NOW.format(
    standings="""
  SELECT g.* FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[]) AS w (t, p)
   CROSS JOIN LATERAL (
     SELECT w.t, w.p, present, waiting, reviewed, is_exported
       FROM reviewapp_standing
      WHERE registered_model_id = %(model)s
        AND true_label_id = w.t AND predicted_label_id = w.p
     UNION ALL
     SELECT w.t, w.p, present, waiting, reviewed, false
       FROM reviewapp_standingchange
      WHERE registered_model_id = %(model)s
        AND true_label_id = w.t AND predicted_label_id = w.p) g"""
)
