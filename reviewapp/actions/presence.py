"""What a finished scan says of the findings it covers: seen, fixed, back, replaced."""

from __future__ import annotations

from django.db import connection

from reviewapp.models import Scan


def settle_presence(scan: Scan) -> int:
    """Bring findings in line with a scan that is done, and return how many moved.

    Call it inside the transaction that ends the scan.

    Seen by the scan: seen, or back when they were fixed. Not seen though covered:
    fixed, or replaced when the sample is wrong in another way now. Samples that were
    removed, that the scan could not read, or of another split are not covered.
    """
    with connection.cursor() as cursor:
        # The planner knows no sizes here and may take thousands of rows for one; and what
        # moved, the trigger gets as two tables, which should not go through files.
        cursor.execute("SET LOCAL enable_nestloop = off; SET LOCAL work_mem = '64MB'")
        cursor.execute(
            SETTLE,
            {
                "dataset": scan.dataset_id,
                "model": scan.model_version.registered_model_id,
                "scan": scan.pk,
                "split": scan.split,
            },
        )
        moved: int = cursor.rowcount
        return moved


# Only the findings that may move are joined with their samples: after a scan that saw
# what the scan before saw there are none. Fixed means right now: wrong in another way is
# another finding, which takes over. A label that a reviewer changed while the scan ran
# keeps what the verdict set aside. The findings are read in parts, as they are indexed.
SETTLE = """
WITH seen AS MATERIALIZED (
  SELECT f.id, f.sample_id, f.kind
    FROM reviewapp_sighting s JOIN reviewapp_finding f ON f.id = s.finding_id
   WHERE s.scan_id = %(scan)s
), wrong AS MATERIALIZED (
  SELECT DISTINCT sample_id FROM seen WHERE kind = 'misclassified'
), unreadable AS MATERIALIZED (
  SELECT sample_id FROM reviewapp_unreadablesample WHERE scan_id = %(scan)s
), found AS (
  SELECT id, sample_id, true_label_id, presence
    FROM reviewapp_finding
   WHERE dataset_id = %(dataset)s AND registered_model_id = %(model)s
     AND kind = 'misclassified'
     AND review_state = 'open' AND presence IN ('seen', 'regressed')
  UNION ALL
  SELECT id, sample_id, true_label_id, presence
    FROM reviewapp_finding
   WHERE dataset_id = %(dataset)s AND registered_model_id = %(model)s
     AND kind = 'near_miss'
     AND review_state = 'open' AND presence IN ('seen', 'regressed')
  UNION ALL
  SELECT id, sample_id, true_label_id, presence
    FROM reviewapp_finding
   WHERE dataset_id = %(dataset)s AND registered_model_id = %(model)s
     AND NOT (review_state = 'open' AND presence IN ('seen', 'regressed'))
), moving AS MATERIALIZED (
  SELECT f.id, f.sample_id, f.true_label_id, f.presence, seen.id IS NOT NULL AS is_seen
    FROM found f LEFT JOIN seen ON seen.id = f.id
   WHERE (seen.id IS NULL) = (f.presence IN ('seen', 'regressed'))
), moved AS MATERIALIZED (
  SELECT m.id, CASE WHEN m.is_seen AND m.presence = 'fixed' THEN 'regressed'
                    WHEN m.is_seen THEN 'seen'
                    WHEN w.sample_id IS NULL THEN 'fixed'
                    ELSE 'superseded' END AS presence
    FROM moving m
    JOIN reviewapp_sample s ON s.id = m.sample_id
    LEFT JOIN wrong w ON w.sample_id = m.sample_id
    LEFT JOIN unreadable u ON u.sample_id = m.sample_id
   WHERE s.removed_at IS NULL AND (%(split)s = '' OR s.split = %(split)s)
     AND CASE WHEN m.is_seen THEN s.label_id = m.true_label_id
         ELSE u.sample_id IS NULL END
)
UPDATE reviewapp_finding f SET presence = moved.presence FROM moved WHERE f.id = moved.id
"""
