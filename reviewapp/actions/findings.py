"""What a finished shard found goes into PostgreSQL, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from django.db import connection, transaction
from django.utils import timezone

from mining.exceptions import ScanCountMismatch
from mining.types import Outcome, ScanSettings
from reviewapp.copying import Columns, copy_columns
from reviewapp.models import Scan, Shard, UnreadableSample


def record_shard(
    *,
    shard: Shard,
    outcomes: Sequence[Outcome],
    pictures: Mapping[int, str] = MappingProxyType({}),
    pace: Mapping[str, Any] = MappingProxyType({}),
) -> bool:
    """Store a shard's findings and sightings and mark it done, in one transaction.

    Running twice changes nothing: the second time it is done by this very attempt.

    Args:
        shard: As returned by `claim_shard`.
        outcomes: One per sample of the shard, right ones included.
        pictures: Sample id -> digest that names the thumbnails, of those that got no
            prediction but can be shown.
        pace: What the worker measured, as `mining.pace` says it.

    Returns:
        False when the shard was taken over or the scan was cancelled; then nothing
        was written.

    Raises:
        ScanCountMismatch: Another number of outcomes than samples.
    """
    if len(outcomes) != shard.samples:
        raise ScanCountMismatch(expected=shard.samples, found=len(outcomes))
    scan = shard.scan
    below = ScanSettings.from_dict(scan.settings).near_miss_below
    # All others are right: asking each three questions took a fifth of a worker's time here.
    seen = [o for o in outcomes if o.predicted != o.true or o.p_true < below]
    near = [o for o in seen if o.is_near_miss(below)]
    wrong = [o for o in seen if o.is_error]
    unreadable = [o for o in seen if o.is_unreadable]
    with transaction.atomic():
        held = _hold(shard)
        if held is not None:
            return held
        if not scan.for_record:
            _store_findings(shard, [*wrong, *near])
        UnreadableSample.objects.bulk_create(
            [
                UnreadableSample(
                    scan=scan,
                    sample_id=o.id,
                    reason=o.error,
                    digest=pictures.get(o.id, ""),
                )
                for o in unreadable
            ],
            ignore_conflicts=True,
        )
        Shard.objects.filter(pk=shard.pk).update(
            state=Shard.State.DONE,
            samples_done=len(outcomes),
            correct=len(outcomes) - len(wrong) - len(unreadable),
            errors=len(wrong),
            near_misses=len(near),
            unreadable=len(unreadable),
            rechecked=pace.get("rechecked", 0),
            changed=pace.get("changed", 0),
            pace=dict(pace),
            finished_at=timezone.now(),
        )
    return True


def _hold(shard: Shard) -> bool | None:
    """Lock a shard that this attempt may record; else return what to answer.

    The row lock makes two deliveries of one shard take turns.
    """
    states = (
        Shard.objects.select_for_update(of=("self",))
        .filter(pk=shard.pk, attempts=shard.attempts)
        .values_list("state", "scan__state")
        .first()
    )
    if states == (Shard.State.RUNNING, Scan.State.RUNNING):
        return None
    return states is not None and states[0] == Shard.State.DONE


def _store_findings(shard: Shard, outcomes: Sequence[Outcome]) -> None:
    scan = shard.scan
    with connection.cursor() as cursor:
        cursor.execute(STAGING)
        for block in _blocks(scan, outcomes):
            copy_columns("staged_outcome_6", block)
        names = {
            "dataset": scan.dataset_id,
            "model": scan.model_version.registered_model_id,
            "scan": scan.pk,
            "first": shard.first_sample,
            "last": shard.last_sample,
        }
        cursor.execute(STORE, names)


def _blocks(scan: Scan, outcomes: Sequence[Outcome]) -> Iterator[Columns]:
    """Yield the columns of `staged_outcome_6`, a block for each length of the top."""
    labels = np.array(scan.classes)
    by_length: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        by_length.setdefault(len(outcome.top_classes), []).append(outcome)
    for rows in by_length.values():
        yield {
            "sample_id": np.array([o.id for o in rows]),
            "true_label_id": labels[[o.true for o in rows]],
            "predicted_label_id": labels[
                np.array([o.predicted for o in rows], np.intp)
            ],
            "digest": np.array([o.digest.encode() for o in rows]),
            "confidence": np.array([o.confidence for o in rows]),
            "p_true": np.array([o.p_true for o in rows]).clip(0, 1),
            "margin": np.array([o.margin for o in rows]),
            "loss": np.array([o.loss for o in rows]),
            "top_labels": labels[np.array([o.top_classes for o in rows], np.intp)],
            "top_probs": np.array([o.top_probs for o in rows], float),
        }


# A temporary table: no WAL, no shared buffers, nobody else's rows, and emptied by the
# end of the transaction, however it ends. Made once per connection, as a table per shard
# would leave some 20 dead rows in the catalogue each time; behind a pooler, where the
# next transaction may meet another connection, it is made there. The number changes with
# the columns: a pooled connection outlives an upgrade. One shared UNLOGGED table took 1.5
# times the processor time (4.5 against 3.0 microseconds a row), its rows have to be
# deleted and vacuumed, and many workers would wait for each other to extend it.
STAGING = """
CREATE TEMP TABLE IF NOT EXISTS staged_outcome_6 (
  sample_id bigint, true_label_id bigint, predicted_label_id bigint, digest bpchar,
  confidence float8, p_true float8, margin float8, loss float8,
  top_labels bigint[], top_probs float8[]
) ON COMMIT DELETE ROWS;
-- The planner knows no sizes here and may take thousands of rows for one.
SET LOCAL enable_nestloop = off
"""

# A finding is remembered: a verdict stands unless the image itself is another one. What
# did not change is not touched, so a nightly scan of the same model writes sightings
# only. ON CONFLICT is for another version of the model that is scanned at the same time;
# nobody else sights for this scan in this shard, whose row is locked.
# Presence is settled when the scan is done.
STORE = """
WITH known AS MATERIALIZED (
  SELECT id, sample_id, true_label_id, predicted_label_id, review_state, digest,
         priority, confidence,
         -- Not EXISTS: that may read every sighting of the scan, for each shard.
         (SELECT s.scan_id FROM reviewapp_sighting s
           WHERE s.finding_id = f.id AND s.scan_id = %(scan)s) IS NOT NULL AS is_sighted
    FROM reviewapp_finding f
   WHERE registered_model_id = %(model)s
     AND sample_id BETWEEN %(first)s AND %(last)s
), reviewed AS (
  SELECT DISTINCT ON (sample_id) sample_id, true_label_id, predicted_label_id,
         review_state
    FROM known WHERE review_state <> 'open' ORDER BY sample_id, id DESC
), written AS (
  INSERT INTO reviewapp_finding AS f
         (dataset_id, registered_model_id, sample_id, true_label_id,
          predicted_label_id, kind, review_state, presence, priority, confidence,
          digest, version, reopened_because, created_at)
  SELECT %(dataset)s, %(model)s, t.sample_id, t.true_label_id, t.predicted_label_id,
         CASE WHEN t.true_label_id = t.predicted_label_id
              THEN 'near_miss' ELSE 'misclassified' END,
         'open', 'seen', 1 - t.p_true, t.confidence, t.digest::text, 0,
         -- Why a sample that was reviewed before is asked about again.
         CASE WHEN r.sample_id IS NULL THEN ''
              WHEN r.true_label_id <> t.true_label_id
              THEN 'the label changed from '
                   || (SELECT name FROM reviewapp_label WHERE id = r.true_label_id)
                   || ' to '
                   || (SELECT name FROM reviewapp_label WHERE id = t.true_label_id)
                   || ' since it was ' || r.review_state
              ELSE 'the prediction changed from '
                   || (SELECT name FROM reviewapp_label WHERE id = r.predicted_label_id)
                   || ' to '
                   || (SELECT name FROM reviewapp_label WHERE id = t.predicted_label_id)
                   || ' since it was ' || r.review_state
         END,
         statement_timestamp()
    FROM staged_outcome_6 t
    LEFT JOIN known k USING (sample_id, true_label_id, predicted_label_id)
    LEFT JOIN reviewed r ON r.sample_id = t.sample_id
   WHERE k.id IS NULL
      OR (k.priority, k.confidence, k.digest)
         IS DISTINCT FROM (1 - t.p_true, t.confidence, t.digest::text)
   ORDER BY t.sample_id
  ON CONFLICT (sample_id, registered_model_id, true_label_id, predicted_label_id)
  DO UPDATE
     SET priority = excluded.priority, confidence = excluded.confidence,
         digest = excluded.digest,
         review_state = CASE WHEN f.digest <> excluded.digest THEN 'open'
                             ELSE f.review_state END,
         reopened_because = CASE WHEN f.digest <> excluded.digest
                                  AND f.review_state <> 'open'
                                 THEN 'the image changed since it was '
                                      || f.review_state
                                 ELSE f.reopened_because END,
         version = f.version + (f.digest <> excluded.digest)::int
  RETURNING id, sample_id, true_label_id, predicted_label_id
)
INSERT INTO reviewapp_sighting
       (finding_id, scan_id, confidence, p_true, margin, loss, top_labels, top_probs)
SELECT coalesce(w.id, k.id) AS finding, %(scan)s, t.confidence, t.p_true, t.margin,
       t.loss, t.top_labels, t.top_probs
  FROM staged_outcome_6 t
  LEFT JOIN written w USING (sample_id, true_label_id, predicted_label_id)
  LEFT JOIN known k USING (sample_id, true_label_id, predicted_label_id)
 WHERE k.is_sighted IS NOT TRUE
 ORDER BY finding;
-- The caller's transaction may go on with another shard.
DELETE FROM staged_outcome_6
"""
