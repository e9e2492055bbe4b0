"""What a finished shard found goes into PostgreSQL, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from mining.exceptions import ScanCountMismatch
from mining.types import Outcome, ScanSettings
from reviewapp.copying import copy_rows
from reviewapp.models import Finding, Scan, Shard, UnreadableSample


def record_shard(*, shard: Shard, outcomes: Sequence[Outcome]) -> bool:
    """Store a shard's findings and sightings and mark it done, in one transaction.

    Running twice changes nothing: the second time the shard is not running any more.

    Args:
        shard: As returned by `claim_shard`.
        outcomes: One per sample of the shard, right ones included.

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
    near = [o for o in outcomes if o.is_near_miss(below)]
    wrong = [o for o in outcomes if o.is_error]
    unreadable = [o for o in outcomes if o.is_unreadable]
    with transaction.atomic():
        # The row lock makes two deliveries of one shard take turns.
        held = (
            Shard.objects.select_for_update(of=("self",))
            .filter(
                pk=shard.pk,
                state=Shard.State.RUNNING,
                attempts=shard.attempts,
                scan__state=Scan.State.RUNNING,
            )
            .exists()
        )
        if not held:
            return False
        if not scan.for_record:
            _store_findings(scan, [*wrong, *near])
        UnreadableSample.objects.bulk_create(
            [
                UnreadableSample(scan=scan, sample_id=o.id, reason=o.error)
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
            finished_at=timezone.now(),
        )
    return True


STAGED = {
    "sample_id": "int8",
    "true_label_id": "int8",
    "predicted_label_id": "int8",
    "kind": "text",
    "digest": "text",
    "confidence": "float8",
    "p_true": "float8",
    "margin": "float8",
    "loss": "float8",
    "top_labels": "int8[]",
    "top_probs": "float8[]",
}


def _store_findings(scan: Scan, outcomes: Sequence[Outcome]) -> None:
    with connection.cursor() as cursor:
        columns = ", ".join(f"{name} {kind}" for name, kind in STAGED.items())
        cursor.execute(f"CREATE TEMP TABLE staged_outcome ({columns}) ON COMMIT DROP")
        rows = _rows(scan, outcomes)
        copy_rows("staged_outcome", list(STAGED), list(STAGED.values()), rows)
        names: dict[str, Any] = {
            "dataset": scan.dataset_id,
            "model": scan.model_version.registered_model_id,
            "scan": scan.pk,
            "now": timezone.now(),
        }
        for statement in (UPSERT_FINDINGS, EXPLAIN_NEW_FINDINGS, INSERT_SIGHTINGS):
            cursor.execute(statement, names)
        cursor.execute("DROP TABLE staged_outcome")


def _rows(scan: Scan, outcomes: Sequence[Outcome]) -> Iterator[tuple[object, ...]]:
    labels = scan.classes
    for o in outcomes:
        predicted = labels[o.predicted or 0]
        yield (
            o.id,
            labels[o.true],
            predicted,
            Finding.Kind.MISCLASSIFIED if o.is_error else Finding.Kind.NEAR_MISS,
            o.digest,
            o.confidence,
            min(max(o.p_true, 0.0), 1.0),
            o.margin,
            o.loss,
            [labels[i] for i in o.top_classes],
            list(o.top_probs),
        )


# A finding is remembered: a verdict stands unless the image itself is another one.
UPSERT_FINDINGS = """
INSERT INTO reviewapp_finding AS f
       (dataset_id, registered_model_id, sample_id, true_label_id, predicted_label_id,
        kind, review_state, presence, priority, confidence, digest, first_scan_id,
        last_scan_id, version, reopened_because, created_at)
SELECT %(dataset)s, %(model)s, sample_id, true_label_id, predicted_label_id, kind,
       'open', 'seen', 1 - p_true, confidence, digest, %(scan)s, %(scan)s, 0, '', %(now)s
  FROM staged_outcome ORDER BY sample_id
ON CONFLICT (dataset_id, registered_model_id, sample_id, true_label_id,
             predicted_label_id) DO UPDATE
   SET priority = excluded.priority, confidence = excluded.confidence,
       last_scan_id = excluded.last_scan_id, digest = excluded.digest,
       presence = CASE f.presence WHEN 'fixed' THEN 'regressed'
                                  WHEN 'superseded' THEN 'seen' ELSE f.presence END,
       review_state = CASE WHEN f.digest <> excluded.digest THEN 'open'
                           ELSE f.review_state END,
       reopened_because = CASE WHEN f.digest <> excluded.digest
                                AND f.review_state <> 'open'
                               THEN 'the image changed since it was ' || f.review_state
                               ELSE f.reopened_because END,
       version = f.version + (f.digest <> excluded.digest)::int
"""

# Why a sample that was reviewed before is asked about again.
EXPLAIN_NEW_FINDINGS = """
UPDATE reviewapp_finding f
   SET reopened_because = CASE
         WHEN before.true_label_id <> f.true_label_id
         THEN 'the label changed from ' || was_true.name || ' to ' || is_true.name
         ELSE 'the prediction changed from ' || was.name || ' to ' || is_now.name
       END || ' since it was ' || before.review_state
  FROM staged_outcome t,
       LATERAL (SELECT e.* FROM reviewapp_finding e
                 WHERE e.dataset_id = %(dataset)s AND e.sample_id = t.sample_id
                   AND e.registered_model_id = %(model)s
                   AND e.review_state <> 'open'
                   AND (e.true_label_id, e.predicted_label_id)
                       <> (t.true_label_id, t.predicted_label_id)
                 ORDER BY e.id DESC LIMIT 1) before,
       reviewapp_label was, reviewapp_label is_now,
       reviewapp_label was_true, reviewapp_label is_true
 WHERE f.dataset_id = %(dataset)s AND f.registered_model_id = %(model)s
   AND f.sample_id = t.sample_id AND f.true_label_id = t.true_label_id
   AND f.predicted_label_id = t.predicted_label_id
   AND f.first_scan_id = %(scan)s AND f.review_state = 'open'
   AND was.id = before.predicted_label_id AND is_now.id = f.predicted_label_id
   AND was_true.id = before.true_label_id AND is_true.id = f.true_label_id
"""

INSERT_SIGHTINGS = """
INSERT INTO reviewapp_sighting
       (finding_id, scan_id, confidence, p_true, margin, loss, top_labels, top_probs)
SELECT f.id, %(scan)s, t.confidence, t.p_true, t.margin, t.loss, t.top_labels,
       t.top_probs
  FROM staged_outcome t
  JOIN reviewapp_finding f
    ON f.dataset_id = %(dataset)s AND f.registered_model_id = %(model)s
   AND f.sample_id = t.sample_id AND f.true_label_id = t.true_label_id
   AND f.predicted_label_id = t.predicted_label_id
 ORDER BY f.id
ON CONFLICT (finding_id, scan_id) DO NOTHING
"""
