"""What may go into a fix set: the reviewed errors, and what speaks against each."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from django.core.cache import cache
from django.db import connection
from django.db.models import Exists

from mining.exceptions import MiningError
from mining.guards import Candidate, Reason, hold_aside
from mining.outliers import read_outliers
from reviewapp.models import (
    Dataset,
    Finding,
    HeldItem,
    Opinion,
    Review,
    Scan,
    Standing,
)
from reviewapp.storage import fetch_file, scratch_folder

if TYPE_CHECKING:
    from reviewapp.models.findings import FindingQuerySet
    from reviewapp.models.scans import ScanQuerySet

logger = logging.getLogger(__name__)

OUTLIERS_KEPT: Final = 86_400  # seconds


class _Row(NamedTuple):
    """A standing verdict with its finding, in the order of `_COLUMNS`."""

    finding: int
    model: int
    kind: str
    verdict: str
    new_label: int | None
    causes: list[str]
    reviewer: str
    reviewed_at: datetime
    note: str
    sample: int
    key: str
    digest_now: str
    label_now: int
    split: str
    original: int
    digest: str
    true: int
    predicted: int
    priority: float
    confidence: float
    is_seconded: bool


_COLUMNS: Final = (
    "finding_id",
    "finding__registered_model_id",
    "finding__kind",
    "verdict",
    "new_label_id",
    "causes",
    "reviewer__username",
    "created_at",
    "note",
    "finding__sample_id",
    "finding__sample__key",
    "finding__sample__digest",
    "finding__sample__label_id",
    "finding__sample__split",
    "finding__sample__original_label_id",
    "finding__digest",
    "finding__true_label_id",
    "finding__predicted_label_id",
    "finding__priority",
    "finding__confidence",
    "is_seconded",
)


@dataclass(frozen=True, slots=True)
class Picked:
    """One reviewed error that may go into a fix set, by names.

    Attributes:
        finding: Its id.
        sample: Id of its sample.
        model: Id of the registered model.
        reason: Why it is held aside; "" when it is not.
    """

    finding: int
    sample: int
    model: int
    sample_key: str
    digest: str
    split: str
    original_label: str
    true_label: str
    label: str
    predicted: str
    verdict: str
    causes: list[str]
    p_true: float
    confidence: float
    reviewer: str
    reviewed_at: datetime
    note: str
    reason: Reason | str = ""

    @property
    def reason_name(self) -> str:
        """Return the reason as people read it."""
        return HeldItem.Reason(self.reason).label if self.reason else ""


def pick(
    dataset: Dataset, findings: FindingQuerySet, *, include: Collection[str] = ()
) -> list[Picked]:
    """Return the confirmed and relabelled ones of `findings`, each with its guard's reason.

    A finding whose image or label changed, or whose image went away, since its verdict is
    left out, and so is the same confusion of the same sample by a second model.

    Args:
        dataset: Theirs.
        findings: Of one data set.
        include: Guards' reasons that hold nothing aside.

    Returns:
        In the order of keys.
    """
    rows = list(_standing(findings))
    names = dict(dataset.labels.values_list("pk", "name"))
    reasons = _reasons(dataset, rows, names, include)
    found = [_picked(row, names, reasons.get(n, "")) for n, row in enumerate(rows)]
    return sorted(
        found, key=lambda one: (one.sample_key, one.predicted, one.true_label)
    )


def _picked(row: _Row, names: Mapping[int, str], reason: Reason | str) -> Picked:
    return Picked(
        finding=row.finding,
        sample=row.sample,
        model=row.model,
        sample_key=row.key,
        digest=row.digest,
        split=row.split,
        original_label=names[row.original],
        true_label=names[row.true],
        label=names[row.new_label or row.true],
        predicted=names[row.predicted],
        verdict=row.verdict,
        causes=row.causes,
        p_true=1 - row.priority,
        confidence=row.confidence,
        reviewer=row.reviewer,
        reviewed_at=row.reviewed_at,
        note=row.note,
        reason=reason,
    )


def _standing(findings: FindingQuerySet) -> Iterator[_Row]:
    """Yield the last standing verdict of each finding that still holds."""
    reviews = (
        Review.objects.standing()
        .filter(
            finding__in=findings.fixable(), finding__sample__removed_at__isnull=True
        )
        .annotate(is_seconded=Exists(Opinion.objects.seconding_row()))
        .order_by("finding_id", "-id")
        .values_list(*_COLUMNS)
    )
    last, seen = 0, set()
    for values in reviews.iterator(chunk_size=5000):
        row = _Row(*values)
        identity = (row.sample, row.true, row.predicted)
        if row.finding != last and identity not in seen and _still_holds(row):
            seen.add(identity)
            yield row
        last = row.finding


def _still_holds(row: _Row) -> bool:
    """Whether the verdict is about the image and the label that are there now.

    Another model's finding of the same image may have been relabelled meanwhile; two
    answers for one image must not end up in one set.
    """
    right = row.new_label or row.true
    return row.digest_now == row.digest and row.label_now == right


def _reasons(
    dataset: Dataset,
    rows: list[_Row],
    names: Mapping[int, str],
    include: Collection[str],
) -> dict[int, Reason]:
    begins = _label_from(dataset)
    unusual: set[int] = set()
    if "outlier" not in include:
        unusual = _outliers(dataset, rows)
    candidates = [
        Candidate(
            sample=row.sample,
            key=row.key,
            digest=row.digest,
            label=names[row.new_label or row.true],
            verdict=row.verdict,
            causes=tuple(row.causes),
            p_true=1 - row.priority,
            is_doubted=row.kind == Finding.Kind.MISCLASSIFIED
            and row.confidence >= begins.get((row.model, row.true, row.predicted), 1.0),
            is_seconded=row.is_seconded,
            is_outlier=row.sample in unusual,
        )
        for row in rows
    ]
    return hold_aside(candidates, _alike(rows), include=include)


def _label_from(dataset: Dataset) -> dict[tuple[int, int, int], float]:
    """Return where the lane label? begins in the confusions that have verdicts."""
    rows = Standing.objects.for_dataset(dataset).filter(reviewed__gt=0)
    names = ("registered_model_id", "true_label_id", "predicted_label_id", "label_from")
    return {row[:3]: row[3] for row in rows.values_list(*names)}


def _alike(rows: Iterable[_Row]) -> dict[int, set[int]]:
    """Return sample id -> those of nearly identical images."""
    found: dict[int, set[int]] = defaultdict(set)
    with connection.cursor() as cursor:
        cursor.execute(ALIKE, [[row.sample for row in rows]])
        for sample, other in cursor.fetchall():
            found[sample].add(other)
    return found


ALIKE = """
SELECT sample_id, other_id FROM reviewapp_lookalike
 WHERE sample_id = ANY(%s::bigint[])
"""


def newest_scans(dataset: Dataset, model: int) -> ScanQuerySet:
    """Return a model's finished scans with outcomes, the latest first.

    Args:
        dataset: Whose samples were scanned.
        model: Id of the registered model.
    """
    return (
        Scan.objects.for_dataset(dataset)
        .filter(model_version__registered_model=model)
        .finished()
        .exclude(artefact="")
        .newest_first()
    )


def scans_over(
    dataset: Dataset, model: int, splits: Collection[str]
) -> dict[str, Scan]:
    """Return split -> the model's last finished scan that covers it, where there is one."""
    scans = list(newest_scans(dataset, model).lean())
    covering = {
        split: next((scan for scan in scans if scan.split in ("", split)), None)
        for split in splits
    }
    return {split: scan for split, scan in covering.items() if scan}


def _outliers(dataset: Dataset, rows: Iterable[_Row]) -> set[int]:
    """Return the ids of samples that the last scans over their splits show as outliers."""
    splits: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        splits[row.model].add(row.split)
    scans = {
        scan.pk: scan
        for model, of_model in splits.items()
        for scan in scans_over(dataset, model, of_model).values()
    }
    return {sample for scan in scans.values() for sample in outliers_of(scan)}


def outliers_of(scan: Scan) -> list[int]:
    """Return the ids of a finished scan's outliers; none when its outcomes are gone.

    They are kept for a day: the preview asks at every change of the filter.
    """
    ended = scan.finished_at.timestamp() if scan.finished_at else 0
    name = f"outliers:{scan.pk}:{ended}"
    known: list[int] | None = cache.get(name)
    if known is None:
        try:
            with scratch_folder() as folder:
                path = folder / "outcomes.parquet"
                fetch_file(scan.artefact, path)
                found: list[int] = read_outliers(path).tolist()
        except (MiningError, OSError) as error:
            logger.warning("The outliers of %s are not known: %s", scan, error)
            return []
        cache.set(name, found, OUTLIERS_KEPT)
        return found
    return known
