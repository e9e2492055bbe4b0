"""Reading the ledger: what each scan says of each confusion, and what it cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from reviewapp.models import Confusion, ConfusionCount, Scan

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
    pairs = {(line.true_label_id, line.predicted_label_id) for line in lines}
    counts = {
        row[:3]: row[3]
        for row in ConfusionCount.objects.of_pairs(pairs)
        .filter(scan__in=scans)
        .values_list("scan_id", "true_label_id", "predicted_label_id", "count")
    }
    splits = _found_in(lines) if any(scan.split for scan in scans) else {}
    known = {scan.pk: frozenset(scan.classes) for scan in scans}
    return [
        LineHistory(
            line=line,
            counts=tuple(
                _say(line, scan, counts, known[scan.pk], splits.get(line.pk, []))
                for scan in scans
            ),
        )
        for line in lines
    ]


def _found_in(lines: Sequence[Confusion]) -> dict[int, list[str]]:
    """Return line id -> splits in which its findings are."""
    ids = [line.pk for line in lines]
    with connection.cursor() as cursor:
        cursor.execute(FOUND_IN, {"looked_at": LOOKED_AT, "lines": ids})
        return dict(cursor.fetchall())


def _say(
    line: Confusion,
    scan: Scan,
    counts: dict[tuple[int, int, int], int],
    known: frozenset[int],
    splits: Sequence[str],
) -> int | None:
    if scan.model_version.registered_model_id != line.registered_model_id:
        return None
    pair = (line.true_label_id, line.predicted_label_id)
    count = counts.get((scan.pk, *pair))
    if count is not None:
        return count
    covered = not scan.split or scan.split in splits
    return 0 if covered and known.issuperset(pair) else None


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
