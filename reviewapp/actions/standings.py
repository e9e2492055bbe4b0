"""Standings: what is still to be added to them, and counting them again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from reviewapp.actions.confusions import update_ledger
from reviewapp.models import (
    Dataset,
    FixSet,
    RegisteredModel,
    Standing,
    StandingChange,
)

FRESH: Final = timedelta(seconds=5)  # a change younger than this is left for later
FEW: Final = 2000  # changes that a reviewer's request may add: some 10 ms


def fold_standings(*, limit: int | None = None) -> int:
    """Add the changes that wait to the standings and tell the ledger; return how many.

    Whoever folds holds a lock until the transaction ends: one at a time.

    Args:
        limit: Add the oldest ones only; None: all.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('reviewapp_standing'))")
        cursor.execute(FOLD, {"limit": limit})
        folded = cursor.fetchall()
        n: int = sum(row[0] for row in folded)
        pairs: dict[tuple[int, int], set[tuple[int, int]]] = {}
        for _, dataset, model, true, predicted, is_told in folded:
            if is_told and true != predicted:  # near misses have no line
                pairs.setdefault((dataset, model), set()).add((true, predicted))
        datasets = Dataset.objects.in_bulk({dataset for dataset, _ in pairs})
        models = RegisteredModel.objects.in_bulk({model for _, model in pairs})
        # Two verdicts at the same time did not see each other. In the order in which a
        # verdict on findings of several models locks their lines: no deadlock.
        for (dataset, model), found in sorted(pairs.items()):
            update_ledger(dataset=datasets[dataset], model=models[model], pairs=found)
    return n


def fold_a_few() -> int:
    """Add the oldest changes if they have waited for seconds, and nobody else does it."""
    with connection.cursor() as cursor:
        cursor.execute(WAITING_SINCE)
        oldest = cursor.fetchone()
    if oldest is None or timezone.now() - oldest[0] < FRESH:
        return 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_try_advisory_xact_lock(hashtext('reviewapp_standing'))"
        )
        (is_mine,) = cursor.fetchone()
        return fold_standings(limit=FEW) if is_mine else 0


WAITING_SINCE = "SELECT created_at FROM reviewapp_standingchange ORDER BY id LIMIT 1"
# In the order of the key, as elsewhere; what has lost its model meanwhile is dropped.
FOLD = """
WITH folded AS (
  DELETE FROM reviewapp_standingchange
   WHERE id IN (SELECT id FROM reviewapp_standingchange ORDER BY id LIMIT %(limit)s)
  RETURNING *
), sums AS (
  SELECT dataset_id, registered_model_id, true_label_id, predicted_label_id,
         sum(present) AS present, sum(waiting) AS waiting, sum(back) AS back,
         sum(reviewed) AS reviewed, count(*) AS n,
         -- What shards have only added, the ledger hears of when the scan is whole.
         bool_or(reviewed <> 0 OR present < 0 OR waiting < 0) AS is_told
    FROM folded
   WHERE registered_model_id IN (SELECT id FROM reviewapp_registeredmodel)
   GROUP BY dataset_id, registered_model_id, true_label_id, predicted_label_id
), added AS (
  INSERT INTO reviewapp_standing AS s
         (dataset_id, registered_model_id, true_label_id, predicted_label_id, kind,
          present, waiting, back, reviewed, is_exported, label_from)
  SELECT dataset_id, registered_model_id, true_label_id, predicted_label_id,
         CASE WHEN true_label_id = predicted_label_id
              THEN 'near_miss' ELSE 'misclassified' END,
         present, waiting, back, reviewed, false, 1
    FROM sums ORDER BY registered_model_id, true_label_id, predicted_label_id
  ON CONFLICT (registered_model_id, true_label_id, predicted_label_id) DO UPDATE
     SET present = s.present + excluded.present, waiting = s.waiting + excluded.waiting,
         back = s.back + excluded.back, reviewed = s.reviewed + excluded.reviewed
)
SELECT n::int, dataset_id, registered_model_id, true_label_id, predicted_label_id,
       is_told FROM sums
"""


def count_waiting(model: RegisteredModel) -> int:
    """Return how many findings of a model wait for a verdict, changes included."""
    total = 0
    for rows in (Standing, StandingChange):
        found = rows.objects.filter(registered_model=model).aggregate(n=Sum("waiting"))
        total += found["n"] or 0
    return total


def note_exported(fix_set: FixSet) -> int:
    """Note at its confusions that a fix is on its way; return at how many it is new.

    Call it inside the transaction that ends the export.
    """
    fold_standings()  # so that each confusion has its standing; and one at a time
    with connection.cursor() as cursor:
        cursor.execute(EXPORTED, [fix_set.pk])
        noted: int = cursor.rowcount
        return noted


EXPORTED = """
UPDATE reviewapp_standing s SET is_exported = true
  FROM (SELECT DISTINCT f.registered_model_id, f.true_label_id, f.predicted_label_id
          FROM reviewapp_fixitem i JOIN reviewapp_finding f ON f.id = i.finding_id
         WHERE i.fix_set_id = %s) AS held (model, true_label, predicted)
 WHERE s.registered_model_id = held.model AND s.true_label_id = held.true_label
   AND s.predicted_label_id = held.predicted AND NOT s.is_exported
"""


@dataclass(frozen=True, slots=True)
class Miscount:
    """A standing that says something else than the findings.

    Attributes:
        model: Name of the registered model.
        true: Name of the true label.
        predicted: Name of the predicted label.
        said: Findings present, waiting, back and reviewed, as the standing has them.
        counted: The same, counted.
    """

    model: str
    true: str
    predicted: str
    said: tuple[int, ...]
    counted: tuple[int, ...]


def miscounts() -> list[Miscount]:
    """Count all findings and return where the standings say something else.

    Reads every finding once: some seconds for a million.
    """
    with connection.cursor() as cursor:
        cursor.execute(MISCOUNTED)
        rows = cursor.fetchall()
    return [
        Miscount(model, true, predicted, tuple(counts[:4]), tuple(counts[4:]))
        for model, true, predicted, *counts in rows
    ]


def recount_standings() -> int:
    """Set every standing to what the findings say and return how many were wrong.

    No finding can change meanwhile; readers are not disturbed.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE reviewapp_finding IN SHARE MODE")
        fold_standings()
        cursor.execute(MISCOUNTED)
        wrong: int = cursor.rowcount
        cursor.execute(RECOUNT)
    return wrong


_COUNTED = """
  SELECT dataset_id, registered_model_id, true_label_id, predicted_label_id,
         count(*) FILTER (WHERE presence IN ('seen', 'regressed'))::int AS present,
         count(*) FILTER (WHERE presence IN ('seen', 'regressed')
                            AND review_state = 'open')::int AS waiting,
         count(*) FILTER (WHERE presence = 'regressed'
                            AND review_state = 'open')::int AS back,
         count(*) FILTER (WHERE review_state <> 'open')::int AS reviewed
    FROM reviewapp_finding
   GROUP BY dataset_id, registered_model_id, true_label_id, predicted_label_id"""
MISCOUNTED = """
WITH counted AS (COUNTED), said AS (
  SELECT registered_model_id, true_label_id, predicted_label_id,
         sum(present)::int AS present, sum(waiting)::int AS waiting,
         sum(back)::int AS back, sum(reviewed)::int AS reviewed
    FROM (SELECT registered_model_id, true_label_id, predicted_label_id,
                 present, waiting, back, reviewed FROM reviewapp_standing
          UNION ALL
          SELECT registered_model_id, true_label_id, predicted_label_id,
                 present, waiting, back, reviewed FROM reviewapp_standingchange) s
   GROUP BY registered_model_id, true_label_id, predicted_label_id
), differ AS (
  SELECT registered_model_id, true_label_id, predicted_label_id,
         coalesce(s.present, 0) AS p1, coalesce(s.waiting, 0) AS w1,
         coalesce(s.back, 0) AS b1, coalesce(s.reviewed, 0) AS r1,
         coalesce(c.present, 0) AS p2, coalesce(c.waiting, 0) AS w2,
         coalesce(c.back, 0) AS b2, coalesce(c.reviewed, 0) AS r2
    FROM counted c FULL JOIN said s
   USING (registered_model_id, true_label_id, predicted_label_id)
)
SELECT m.name, t.name, p.name, p1, w1, b1, r1, p2, w2, b2, r2
  FROM differ d
  JOIN reviewapp_registeredmodel m ON m.id = d.registered_model_id
  JOIN reviewapp_label t ON t.id = d.true_label_id
  JOIN reviewapp_label p ON p.id = d.predicted_label_id
 WHERE (p1, w1, b1, r1) <> (p2, w2, b2, r2)
 ORDER BY m.name, t.name, p.name
""".replace("COUNTED", _COUNTED)
# The first part is for confusions that have no findings any more.
RECOUNT = """
WITH counted AS (COUNTED), gone AS (
  UPDATE reviewapp_standing SET present = 0, waiting = 0, back = 0, reviewed = 0
   WHERE (registered_model_id, true_label_id, predicted_label_id) NOT IN (
         SELECT registered_model_id, true_label_id, predicted_label_id FROM counted)
)
INSERT INTO reviewapp_standing AS s
       (dataset_id, registered_model_id, true_label_id, predicted_label_id, kind,
        present, waiting, back, reviewed, is_exported, label_from)
SELECT dataset_id, registered_model_id, true_label_id, predicted_label_id,
       CASE WHEN true_label_id = predicted_label_id
            THEN 'near_miss' ELSE 'misclassified' END,
       present, waiting, back, reviewed, false, 1
  FROM counted ORDER BY registered_model_id, true_label_id, predicted_label_id
ON CONFLICT (registered_model_id, true_label_id, predicted_label_id) DO UPDATE
   SET present = excluded.present, waiting = excluded.waiting, back = excluded.back,
       reviewed = excluded.reviewed
 WHERE (s.present, s.waiting, s.back, s.reviewed)
       IS DISTINCT FROM
       (excluded.present, excluded.waiting, excluded.back, excluded.reviewed)
""".replace("COUNTED", _COUNTED)
