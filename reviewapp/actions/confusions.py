"""The ledger follows from scans and findings; each change of state is an event."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone
from psycopg.types.json import Jsonb

from mining.evidence import NOTHING, Evidence
from reviewapp.actions.evidence import Known, evidence_of
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


@dataclass(frozen=True, slots=True)
class Line:
    """What changes in a line of the ledger; as it is before the line is there."""

    state: str = ""
    present: int = 0
    peak: int = 0
    last_scan: int | None = None
    claimed_at: datetime | None = None
    evidence: Evidence = NOTHING


@dataclass(frozen=True, slots=True)
class Found:
    """A line as it is, and what its next state follows from."""

    line: Line
    target: int | None
    counts: Counts


def next_state(evidence: Evidence, now: Counts, *, is_claimed: bool) -> Confusion.State:
    """Return the state that follows from what scans proved, or else from the findings.

    Back: until a new fix is exported and nothing waits.
    """
    if evidence.says == "fixed":
        return State.FIXED
    if evidence.says == "improving":
        return State.IMPROVING
    if is_claimed and not now.waiting:
        return State.FIX_EXPORTED
    if evidence.says == "regressed":
        return State.REGRESSED
    return State.IN_REVIEW if now.reviewed else State.OPEN


def update_ledger(
    *,
    dataset: Dataset,
    model: RegisteredModel,
    scan: Scan | None = None,
    pairs: Collection[Pair] | None = None,
    exported_at: datetime | None = None,
) -> int:
    """Bring ledger lines in line with scans and findings; call it inside a transaction.

    Args:
        dataset: Whose ledger.
        model: Whose predictions.
        scan: The scan that just ended, for what it proves, first and last seen, the peak.
        pairs: Only these (true, predicted) label ids; None: all.
        exported_at: When a fix set that holds them was exported for the first time.

    Returns:
        How many changes of state were recorded.
    """
    counts = _counts(scan)
    if scan is not None:
        # What a scan proves follows from what was proved: nobody may come in between.
        _lock_lines(dataset, model, pairs)
    found = _look(dataset, model, pairs)
    changing = _changing(found, scan, counts, exported_at)
    if not changing:  # most verdicts change no line
        return 0
    if scan is None:
        _lock_lines(dataset, model, changing)
        # Read again behind the locks: what another update has just committed is seen.
        found = _look(dataset, model, changing.keys())
        changing = _changing(found, scan, counts, exported_at)
    ids = _save(dataset, model, scan, changing)
    moment = timezone.now()
    changes = [
        (ids[pair], scan and scan.pk, was.line.state, line.state, evidence, moment)
        for pair, line in changing.items()
        for was in (found[pair],)
        if line.state != was.line.state
        for evidence in (Jsonb(_told(was.counts, line, scan, counts.get(pair))),)
    ]
    return copy_rows(
        "reviewapp_confusionevent", list(EVENT), list(EVENT.values()), changes
    )


def _changing(
    found: Mapping[Pair, Found],
    scan: Scan | None,
    counts: Mapping[Pair, int],
    exported_at: datetime | None,
) -> dict[Pair, Line]:
    """Return the lines that change, as they should be."""
    proved = _proved(found, scan, counts) if scan is not None else {}
    changing = {}
    for pair, entry in found.items():
        was, counted = entry.line, entry.counts
        evidence = proved.get(pair, was.evidence)
        is_new = not was.state
        if is_new and not counted.present and evidence is NOTHING:
            continue  # no finished scan has seen it
        is_back = (was.evidence.says, evidence.says) == ("fixed", "regressed")
        claimed_at = None if is_back else was.claimed_at or exported_at
        line = Line(
            state=next_state(evidence, counted, is_claimed=claimed_at is not None),
            present=counted.present,
            peak=max(was.peak, counts.get(pair, 0)),
            last_scan=scan.pk if scan and (is_new or pair in counts) else was.last_scan,
            claimed_at=claimed_at,
            evidence=evidence,
        )
        if line != was:
            changing[pair] = line
    return changing


def _proved(
    found: Mapping[Pair, Found], scan: Scan, counts: Mapping[Pair, int]
) -> dict[Pair, Evidence]:
    """Return what the scan proves of the lines that it can judge."""
    lines = {
        pair: Known(
            present=entry.counts.present,
            claimed_at=entry.line.claimed_at,
            target=entry.target,
            evidence=entry.line.evidence,
        )
        for pair, entry in found.items()
        if entry.line.claimed_at
        or not entry.counts.present
        or entry.line.evidence is not NOTHING
    }
    return evidence_of(scan=scan, lines=lines, counts=counts)


def _look(
    dataset: Dataset, model: RegisteredModel, pairs: Collection[Pair] | None
) -> dict[Pair, Found]:
    """Return each line as it is, and what its findings say."""
    values: dict[str, Any] = {
        "dataset": dataset.pk,
        "model": model.pk,
        "true": [true for true, _ in pairs or ()],
        "predicted": [predicted for _, predicted in pairs or ()],
    }
    if pairs is None or len(pairs) > MANY:
        with connection.cursor() as cursor:
            # The planner knows no sizes here and may take thousands of rows for one.
            cursor.execute("SET LOCAL enable_nestloop = off")
            cursor.execute(ALL_LINES, values)
            rows = cursor.fetchall()
    else:
        rows = fetch(SOME_LINES, values)
    return {
        (true, predicted): Found(
            _line(stored), target, Counts(present, waiting, reviewed)
        )
        for true, predicted, present, waiting, reviewed, target, *stored in rows
        if pairs is None or (true, predicted) in pairs
    }


def _line(stored: list[Any]) -> Line:
    state, present, peak, last_scan, claimed_at, evidence = stored
    if state is None:
        return Line()
    said = NOTHING if evidence == "{}" else Evidence.from_dict(json.loads(evidence))
    return Line(state, present, peak, last_scan, claimed_at, said)


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
    dataset: Dataset, model: RegisteredModel, pairs: Collection[Pair] | None
) -> None:
    """Lock ledger lines in id order, so that two updates cannot block each other."""
    lines = Confusion.objects.for_dataset(dataset).of_model(model)
    if pairs is not None:
        lines = lines.of_pairs(pairs)
    list(lines.select_for_update(of=("self",)).order_by("id").values_list("id"))


def _save(
    dataset: Dataset,
    model: RegisteredModel,
    scan: Scan | None,
    lines: Mapping[Pair, Line],
) -> dict[Pair, int]:
    """Write new and changed lines in one statement and return their ids."""
    columns: dict[str, list[Any]] = {
        "true": [true for true, _ in lines],
        "predicted": [predicted for _, predicted in lines],
        "state": [line.state for line in lines.values()],
        "present": [line.present for line in lines.values()],
        "peak": [line.peak for line in lines.values()],
        "last": [line.last_scan for line in lines.values()],
        "claimed": [line.claimed_at for line in lines.values()],
        "evidence": [json.dumps(line.evidence.to_dict()) for line in lines.values()],
    }
    values: dict[str, Any] = dict(columns)
    values |= {"dataset": dataset.pk, "model": model.pk, "first": scan and scan.pk}
    with connection.cursor() as cursor:
        cursor.execute(SAVE_LINES, values)
        return {(true, predicted): pk for pk, true, predicted in cursor.fetchall()}


# On conflict also for a line that another update has made since the locks were taken.
SAVE_LINES = """
INSERT INTO reviewapp_confusion AS c
       (dataset_id, registered_model_id, true_label_id, predicted_label_id, state,
        present, peak, first_scan_id, last_scan_id, claimed_at, evidence, plan,
        updated_at)
SELECT %(dataset)s, %(model)s, n.t, n.p, n.state, n.present, n.peak,
       %(first)s, n.last, n.claimed, n.evidence::jsonb, '', statement_timestamp()
  FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[], %(state)s::text[],
              %(present)s::int[], %(peak)s::int[], %(last)s::bigint[],
              %(claimed)s::timestamptz[], %(evidence)s::text[])
       AS n (t, p, state, present, peak, last, claimed, evidence)
 ORDER BY n.t, n.p
ON CONFLICT (dataset_id, registered_model_id, true_label_id, predicted_label_id)
DO UPDATE SET state = excluded.state, present = excluded.present, peak = excluded.peak,
              last_scan_id = excluded.last_scan_id, claimed_at = excluded.claimed_at,
              evidence = excluded.evidence, updated_at = excluded.updated_at
RETURNING id, true_label_id, predicted_label_id
"""


def _told(
    counted: Counts, line: Line, scan: Scan | None, count: int | None
) -> dict[str, Any]:
    """Return the evidence of a change of state, and of a scan what it proves."""
    findings = {
        "present": counted.present,
        "waiting": counted.waiting,
        "reviewed": counted.reviewed,
        "count_in_scan": count,
    }
    return findings | line.evidence.to_dict() if scan else findings


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
       c.target, c.state, c.present, c.peak, c.last_scan_id, c.claimed_at,
       c.evidence::text
  FROM ({standings}) AS n (t, p, present, waiting, reviewed)
  LEFT JOIN reviewapp_confusion c
    ON c.dataset_id = %(dataset)s AND c.registered_model_id = %(model)s
   AND c.true_label_id = n.t AND c.predicted_label_id = n.p
 GROUP BY n.t, n.p, c.id
"""
MANY = 500  # pairs from which on reading all lines of a model is faster
ALL_LINES = _NOW.format(
    standings="""
  SELECT true_label_id, predicted_label_id, present, waiting, reviewed
    FROM reviewapp_standing
   WHERE registered_model_id = %(model)s AND kind = 'misclassified'
  UNION ALL
  SELECT true_label_id, predicted_label_id, present, waiting, reviewed
    FROM reviewapp_standingchange
   WHERE registered_model_id = %(model)s AND true_label_id <> predicted_label_id"""
)
SOME_LINES = _NOW.format(
    standings="""
  SELECT g.* FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[]) AS w (t, p)
   CROSS JOIN LATERAL (
     SELECT w.t, w.p, present, waiting, reviewed
       FROM reviewapp_standing
      WHERE registered_model_id = %(model)s
        AND true_label_id = w.t AND predicted_label_id = w.p
     UNION ALL
     SELECT w.t, w.p, present, waiting, reviewed
       FROM reviewapp_standingchange
      WHERE registered_model_id = %(model)s
        AND true_label_id = w.t AND predicted_label_id = w.p) g"""
)
