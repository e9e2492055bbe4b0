"""Reading the ledger: what each scan says of each confusion, and what it cannot say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from reviewapp.models import Confusion, ConfusionCount, Dataset, Finding, Scan

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


def histories(
    *, dataset: Dataset, lines: Sequence[Confusion], scans: Sequence[Scan]
) -> list[LineHistory]:
    """Return the counts of ledger lines in finished scans, in two queries.

    0 is said only by a scan of the same model that knew both classes and covered the
    split in which the confusion was found.

    Args:
        dataset: Whose ledger.
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
    splits: defaultdict[tuple[int, int, int], set[str]] = defaultdict(set)
    found_in = Finding.objects.for_dataset(dataset).misclassified().of_pairs(pairs)
    for model, true, predicted, split in found_in.splits_by_confusion():
        splits[model, true, predicted].add(split)
    return [
        LineHistory(
            line=line,
            counts=tuple(_say(line, scan, counts, splits) for scan in scans),
        )
        for line in lines
    ]


def _say(
    line: Confusion,
    scan: Scan,
    counts: dict[tuple[int, int, int], int],
    splits: dict[tuple[int, int, int], set[str]],
) -> int | None:
    if scan.model_version.registered_model_id != line.registered_model_id:
        return None
    true, predicted = line.true_label_id, line.predicted_label_id
    count = counts.get((scan.pk, true, predicted))
    if count is not None:
        return count
    known = true in scan.classes and predicted in scan.classes
    found_in = splits.get((line.registered_model_id, true, predicted), set())
    covered = not scan.split or scan.split in found_in
    return 0 if known and covered else None


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
