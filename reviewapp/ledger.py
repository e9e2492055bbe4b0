"""Reading the ledger: what each scan says of each confusion, and what it cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection
from django.db.models import Count, Exists, OuterRef

from reviewapp.models import (
    Confusion,
    Export,
    FixItem,
    FixSet,
    Scan,
)

SPARK_WIDTH, SPARK_HEIGHT = 96.0, 24.0  # pixels, as .spark in app.css
SPARK_EDGE = 2.0  # room for the line's own width


@dataclass(frozen=True, slots=True)
class LineHistory:
    """One ledger line and its errors in each scan.

    Attributes:
        line: The ledger line.
        counts: Errors by scan, in the order of the scans; None where the scan says
            nothing about the pair.
    """

    line: Confusion
    counts: tuple[int | None, ...]

    @property
    def spark(self) -> list[list[str]]:
        """Return the points of the SVG lines of `counts`."""
        return spark_lines(self.counts)

    @property
    def spoken(self) -> str:
        """Return the counts as text, for those who do not see the curve."""
        return ", ".join("not covered" if n is None else str(n) for n in self.counts)


# The splits of a line's hardest findings, so many of those that wait and of the others:
# a page must not read all of them. A rarer split counts as one that was not covered.
LOOKED_AT = 200
FOUND_IN = """
SELECT l.id, array_agg(DISTINCT s.split)
  FROM reviewapp_confusion l, LATERAL (
    (SELECT f.sample_id FROM reviewapp_finding f
      WHERE f.dataset_id = l.dataset_id AND f.true_label_id = l.true_label_id
        AND f.predicted_label_id = l.predicted_label_id
        AND f.registered_model_id = l.registered_model_id
        AND f.review_state = 'open' AND f.presence IN ('seen', 'regressed')
      ORDER BY f.priority DESC, f.id DESC LIMIT %(looked_at)s)
    UNION ALL
    (SELECT f.sample_id FROM reviewapp_finding f
      WHERE f.dataset_id = l.dataset_id AND f.true_label_id = l.true_label_id
        AND f.predicted_label_id = l.predicted_label_id
        AND f.registered_model_id = l.registered_model_id
        AND NOT (f.review_state = 'open' AND f.presence IN ('seen', 'regressed'))
      ORDER BY f.priority DESC, f.id DESC LIMIT %(looked_at)s)
  ) f JOIN reviewapp_sample s ON s.id = f.sample_id
 WHERE l.id = ANY(%(lines)s) GROUP BY l.id
"""


def histories(
    *, lines: Sequence[Confusion], scans: Sequence[Scan]
) -> list[LineHistory]:
    """Return the counts of ledger lines in finished scans, in at most two queries.

    0 is said only by a scan of the same model that knew both classes and covered the
    split in which the confusion was found.

    Args:
        lines: The ledger lines.
        scans: Finished scans that count, in the wanted order, with their model
            version loaded.
    """
    counts = _counts(lines, scans)
    splits = _found_in(lines) if any(scan.split for scan in scans) else {}
    # Read once: there are thousands of pairs of a line and a scan.
    looked = [
        (
            scan.pk,
            scan.model_version.registered_model_id,
            scan.split,
            frozenset(scan.classes),
        )
        for scan in scans
    ]
    return [
        LineHistory(line, _say(line, looked, counts, splits.get(line.pk, ())))
        for line in lines
    ]


# Each pair in each scan by itself: else the planner may read all scans of a class.
COUNTS = """
SELECT c.scan_id, c.true_label_id, c.predicted_label_id, c.count
  FROM unnest(%(true)s::bigint[], %(predicted)s::bigint[]) AS p (label, guess)
 CROSS JOIN unnest(%(scans)s::bigint[]) AS s (id)
  JOIN reviewapp_confusioncount c
    ON c.scan_id = s.id AND c.true_label_id = p.label AND c.predicted_label_id = p.guess
"""


def _counts(
    lines: Sequence[Confusion], scans: Sequence[Scan]
) -> dict[tuple[int, int, int], int]:
    """Return (scan, true label, predicted label) ids -> errors, of what was counted."""
    pairs = list({(line.true_label_id, line.predicted_label_id) for line in lines})
    values = {
        "true": [true for true, _ in pairs],
        "predicted": [predicted for _, predicted in pairs],
        "scans": [scan.pk for scan in scans],
    }
    with connection.cursor() as cursor:
        cursor.execute(COUNTS, values)
        return {row[:3]: row[3] for row in cursor.fetchall()}


def _found_in(lines: Sequence[Confusion]) -> dict[int, list[str]]:
    """Return line id -> splits in which its findings are."""
    ids = [line.pk for line in lines]
    with connection.cursor() as cursor:
        cursor.execute(FOUND_IN, {"looked_at": LOOKED_AT, "lines": ids})
        return dict(cursor.fetchall())


def _say(
    line: Confusion,
    looked: Sequence[tuple[int, int, str, frozenset[int]]],
    counts: dict[tuple[int, int, int], int],
    splits: Sequence[str],
) -> tuple[int | None, ...]:
    """Return what each scan says: its id, model, split and known classes are given."""
    model, true, predicted = (
        line.registered_model_id,
        line.true_label_id,
        line.predicted_label_id,
    )
    said: list[int | None] = []
    for pk, of_model, split, known in looked:
        count = counts.get((pk, true, predicted)) if of_model == model else None
        if count is None and of_model == model and (not split or split in splits):
            count = 0 if true in known and predicted in known else None
        said.append(count)
    return tuple(said)


def spark_lines(
    counts: Sequence[int | None],
    *,
    width: float = SPARK_WIDTH,
    height: float = SPARK_HEIGHT,
) -> list[list[str]]:
    """Return SVG points "x,y" in pixels, a list for each run without a gap.

    Up is more; the lowest line is 0. A run of one is a dot.

    >>> spark_lines([2, None, 1, 0], width=34, height=14)
    [['2.0,2.0'], ['22.0,7.0', '32.0,12.0']]
    """
    top = max((n for n in counts if n is not None), default=0) or 1
    step = (width - 2 * SPARK_EDGE) / max(len(counts) - 1, 1)
    runs: list[list[str]] = [[]]
    for place, n in enumerate(counts):
        if n is None:
            runs.append([])
            continue
        x = SPARK_EDGE + place * step
        y = height - SPARK_EDGE - n / top * (height - 2 * SPARK_EDGE)
        runs[-1].append(f"{x:.1f},{y:.1f}")
    return [run for run in runs if run]


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of a confusion's findings, as its model's last scan has it.

    Attributes:
        new: First seen by it.
        still: Seen by it and before.
        fixed: Covered by a later scan and right.
        regressed: Fixed before, and seen by it.
        not_covered: Seen by an earlier scan; it did not look, or could not read them.
        superseded: Wrong in another way now, or with another label or image.
        is_cut: Whether only the hardest were looked at.
    """

    new: int = 0
    still: int = 0
    fixed: int = 0
    regressed: int = 0
    not_covered: int = 0
    superseded: int = 0
    is_cut: bool = False


FOLLOWED = 1_000  # of those that wait and of the others; the hardest
_OF_LINE = """
    SELECT id, presence FROM reviewapp_finding
     WHERE dataset_id = %(dataset)s AND true_label_id = %(true)s
       AND predicted_label_id = %(predicted)s AND registered_model_id = %(model)s
       AND {waiting} (review_state = 'open' AND presence IN ('seen', 'regressed'))
     ORDER BY priority DESC, id DESC LIMIT %(limit)s"""
# With a limit: else the planner may read all that the scan saw.
_SEEN = """(SELECT true FROM reviewapp_sighting s
                   WHERE s.finding_id = l.id AND s.scan_id {op} %(scan)s LIMIT 1)"""
BECAME = f"""
WITH looked AS MATERIALIZED (
  ({_OF_LINE.format(waiting="")}) UNION ALL ({_OF_LINE.format(waiting="NOT")})
)
SELECT CASE WHEN l.presence IN ('fixed', 'superseded') THEN l.presence
            WHEN {_SEEN.format(op="=")} IS NULL THEN 'not_covered'
            WHEN l.presence = 'regressed' THEN 'regressed'
            WHEN {_SEEN.format(op="<")} IS NULL THEN 'new'
            ELSE 'still' END AS became, count(*)
  FROM looked l GROUP BY 1
"""  # noqa: S608 - parts of this file


def fates_of(line: Confusion, scan: int) -> Fates:
    """Return what became of a line's findings, of the hardest 2,000 at most.

    Args:
        line: The ledger line.
        scan: Id of the last of its model that counts.
    """
    values = {
        "dataset": line.dataset_id,
        "model": line.registered_model_id,
        "true": line.true_label_id,
        "predicted": line.predicted_label_id,
        "scan": scan,
        "limit": FOLLOWED,
    }
    with connection.cursor() as cursor:
        cursor.execute(BECAME, values)
        counts: dict[str, int] = dict(cursor.fetchall())
    return Fates(**counts, is_cut=sum(counts.values()) >= FOLLOWED)


def claims_on(line: Confusion) -> list[FixSet]:
    """Return the exported fix sets that hold findings of a line, the latest first.

    Each with `held`, how many, and its `trained_versions` loaded.
    """
    done = Export.objects.filter(fix_set=OuterRef("fix_set"), state=Export.State.DONE)
    held = dict(
        FixItem.objects.filter(
            Exists(done),
            finding__dataset=line.dataset_id,
            finding__registered_model=line.registered_model_id,
            finding__true_label=line.true_label_id,
            finding__predicted_label=line.predicted_label_id,
        )
        .order_by()
        .values_list("fix_set")
        .annotate(n=Count("id"))
    )
    sets = FixSet.objects.filter(pk__in=held).newest_first()
    found = list(sets.prefetch_related("trained_versions__registered_model"))
    for fix_set in found:
        fix_set.held = held[fix_set.pk]  # type: ignore[attr-defined]
    return found
