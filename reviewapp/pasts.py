"""What earlier scans and reviews say of the image of a finding."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from reviewapp.rows import fetch

if TYPE_CHECKING:
    from reviewapp.models import Finding


@dataclass(frozen=True, slots=True)
class Past:
    """In how many of the scans that covered a sample the model was wrong.

    Attributes:
        wrong: Finished scans of the registered model that saw an error of the sample.
        of: Finished scans that looked at its split, or at every sample.
        is_reviewed: Whether any finding of the sample ever got a verdict.
    """

    wrong: int
    of: int
    is_reviewed: bool


def past_of(finding: Finding) -> Past:
    """Return the past of a finding's image. Reads `finding.sample`; one query."""
    values: dict[str, int | str] = {
        "sample": finding.sample_id,
        "model": finding.registered_model_id,
        "split": finding.sample.split,
    }
    (row,) = fetch(PAST, values)
    return Past(*row)


# As text: the desk asks it for every finding, and the ORM takes longer to write it than
# PostgreSQL to answer it.
PAST = """
WITH covered AS (
  SELECT s.id FROM reviewapp_scan s
    JOIN reviewapp_modelversion v ON v.id = s.model_version_id
   WHERE v.registered_model_id = %(model)s AND s.state = 'done'
     AND s.split IN ('', %(split)s)
), here AS (
  SELECT id, registered_model_id, kind FROM reviewapp_finding
   WHERE sample_id = %(sample)s
)
SELECT (SELECT count(DISTINCT g.scan_id) FROM here h
          JOIN reviewapp_sighting g ON g.finding_id = h.id
         WHERE h.registered_model_id = %(model)s AND h.kind = 'misclassified'
           AND g.scan_id IN (SELECT id FROM covered)),
       (SELECT count(*) FROM covered),
       EXISTS (SELECT FROM here h JOIN reviewapp_review r ON r.finding_id = h.id)
"""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """A finding as one scan saw it.

    Attributes:
        scan_id: The scan.
        created_at: When it was started.
        model_version: Its version, in words.
        p_true: Probability of the true label, 0-1.
        confidence: Probability of the prediction, 0-1.
        top_labels: Label ids, surest first.
        top_probs: Their probabilities.
        folds: As the scan has it.
        is_in_sample: Whether its model may have been trained on the image.
    """

    scan_id: int
    created_at: datetime
    model_version: str
    p_true: float
    confidence: float
    top_labels: list[int]
    top_probs: list[float]
    folds: int
    is_in_sample: bool


@dataclass(frozen=True, slots=True)
class TopClass:
    """One of the classes that the model was surest of."""

    label_id: int
    name: str
    probability: float  # 0-1
    is_current: bool  # whether the data set still has the class


def last_seen(finding: Finding, limit: int) -> list[LastSeen]:
    """Return the last sightings of a finding, the latest scan first."""
    return [LastSeen(*row) for row in fetch(SEEN, [finding.pk, limit])]


SEEN = """
SELECT g.scan_id, s.created_at, m.name || ' v' || v.number, g.p_true, g.confidence,
       g.top_labels, g.top_probs, s.folds, s.covers_train AND s.folds = 0
  FROM reviewapp_sighting g
  JOIN reviewapp_scan s ON s.id = g.scan_id
  JOIN reviewapp_modelversion v ON v.id = s.model_version_id
  JOIN reviewapp_registeredmodel m ON m.id = v.registered_model_id
 WHERE g.finding_id = %s ORDER BY g.scan_id DESC LIMIT %s
"""


def top_of(seen: LastSeen, limit: int) -> list[TopClass]:
    """Return the classes that the model was surest of, with their names."""
    ids = seen.top_labels[:limit]
    labels = {pk: named for pk, *named in fetch(TOP, [ids])}
    return [
        TopClass(pk, labels[pk][0], probability, labels[pk][1])
        for pk, probability in zip(ids, seen.top_probs, strict=False)
    ]


TOP = """
SELECT id, name, index IS NOT NULL FROM reviewapp_label WHERE id = ANY(%s::bigint[])
"""
