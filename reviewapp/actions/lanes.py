"""Where the lane label? begins and what it hands out first, as the last scan says."""

from __future__ import annotations

from typing import Any

import numpy as np
from django.db import connection, transaction

from mining.label_quality import DoubtOrder, Floats
from reviewapp.models import RegisteredModel, Scan


def set_label_from(*, scan: Scan, thresholds: Floats) -> int:
    """Write where the lane label? begins into the standings; return how many changed.

    Args:
        scan: Of the standings' model.
        thresholds: float64 (K,), by class of the scan; NaN keeps what an earlier scan said.
    """
    known = np.flatnonzero(~np.isnan(thresholds))
    values: dict[str, Any] = {
        "model": scan.model_version.registered_model_id,
        "labels": [scan.classes[n] for n in known],
        "thresholds": thresholds[known].tolist(),
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(SET_LABEL_FROM, values)
        changed: int = cursor.rowcount
        return changed


def set_doubt_order(*, scan: Scan, order: DoubtOrder | None) -> int:
    """Write which errors of the scan's model wrong labels are found in first.

    Args:
        scan: Of the model.
        order: None keeps what an earlier scan said.

    Returns:
        1 when it changed, else 0.
    """
    if order is None:
        return 0
    model = RegisteredModel.objects.filter(pk=scan.model_version.registered_model_id)
    return model.exclude(doubt_order=order).update(doubt_order=order)


# The rows are locked in the order in which verdicts lock them, so that neither waits for
# the other in a circle.
SET_LABEL_FROM = """
WITH changed AS MATERIALIZED (
  SELECT s.id, t.label_from
    FROM reviewapp_standing s
    JOIN unnest(%(labels)s::bigint[], %(thresholds)s::float8[]) AS t (label, label_from)
      ON t.label = s.predicted_label_id
   WHERE s.registered_model_id = %(model)s AND s.kind = 'misclassified'
     AND s.label_from <> t.label_from
   ORDER BY s.registered_model_id, s.true_label_id, s.predicted_label_id
     FOR NO KEY UPDATE OF s
)
UPDATE reviewapp_standing s SET label_from = changed.label_from
  FROM changed WHERE changed.id = s.id
"""
