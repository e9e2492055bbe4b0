"""Nearly identical images among the findings of a scan."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.db import connection, transaction

from mining.artefact import File, iter_columns
from mining.lookalikes import Pairs, lookalikes
from mining.types import ScanSettings
from reviewapp.copying import copy_columns
from reviewapp.models import RegisteredModel, Scan

KEPT = ["id", "digest", "phash", "brightness", "contrast", "width"]
COLUMNS = (*KEPT, "true", "predicted", "p_true")


def find_lookalikes(*, scan: Scan, artefact: File) -> int:
    """Store which images among the findings of a scan look alike; return how many pairs.

    Pairs of earlier scans stay, but for those of two images of which this one knows better.
    Running it twice changes nothing.

    Raises:
        ArtefactError: The artefact is missing or damaged.
    """
    below = ScanSettings.from_dict(scan.settings).near_miss_below
    found = pa.concat_tables(
        [_findings(table, below) for table in iter_columns(artefact, COLUMNS)]
    ).combine_chunks()
    tones = [found[name].to_numpy() for name in ("brightness", "contrast")]
    pairs = lookalikes(
        found["digest"].combine_chunks(),
        found["phash"].combine_chunks(),
        np.column_stack(tones),
    )
    samples = found["id"].to_numpy()
    seen = found.filter(pc.is_valid(found["width"]))["id"].to_numpy()
    with transaction.atomic(), connection.cursor() as cursor:
        # Two runs take turns.
        model = RegisteredModel.objects.select_for_update(no_key=True)
        model.get(pk=scan.model_version.registered_model_id)
        cursor.execute(STAGING)
        if len(seen):
            copy_columns("staged_looked", {"sample_id": seen})
        if len(pairs):
            copy_columns("staged_lookalike", _both_ways(samples, pairs))
        cursor.execute(FORGET)
        cursor.execute(STORE, {"dataset": scan.dataset_id})
    return len(pairs)


def _findings(table: pa.Table, below: float) -> pa.Table:
    """Return the rows that are errors or near misses."""
    is_right = pc.equal(table["true"], table["predicted"])  # null: unreadable
    is_found = pc.or_(pc.invert(is_right), pc.less(table["p_true"], below))
    return table.filter(is_found).select(KEPT)


def _both_ways(samples: np.ndarray, pairs: Pairs) -> dict[str, np.ndarray]:
    one, other = samples[pairs.first], samples[pairs.second]
    return {
        "sample_id": np.concatenate([one, other]),
        "other_id": np.concatenate([other, one]),
        "distance": np.tile(pairs.distance, 2),
    }


STAGING = """
CREATE TEMP TABLE IF NOT EXISTS staged_looked (sample_id bigint) ON COMMIT DROP;
CREATE TEMP TABLE IF NOT EXISTS staged_lookalike (
  sample_id bigint, other_id bigint, distance bigint
) ON COMMIT DROP;
-- The caller's transaction may have filled them before.
TRUNCATE staged_looked, staged_lookalike;
-- The planner knows no sizes here and may take thousands of rows for one.
SET LOCAL enable_nestloop = off;
"""

# Of two images that the scan has both decoded, what it does not say is true no more.
FORGET = """
DELETE FROM reviewapp_lookalike l
 USING staged_looked a, staged_looked b
 WHERE l.sample_id = a.sample_id AND l.other_id = b.sample_id
   AND NOT EXISTS (
     SELECT FROM staged_lookalike s
      WHERE s.sample_id = l.sample_id AND s.other_id = l.other_id
        AND s.distance = l.distance)
"""

STORE = """
INSERT INTO reviewapp_lookalike (dataset_id, sample_id, other_id, distance)
SELECT %(dataset)s, s.sample_id, s.other_id, s.distance
  FROM staged_lookalike s
 ORDER BY s.sample_id, s.other_id
ON CONFLICT (sample_id, other_id) DO UPDATE SET distance = excluded.distance
 WHERE reviewapp_lookalike.distance <> excluded.distance
"""
