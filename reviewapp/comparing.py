"""Two finished scans, brought together: their labels, what was seen before, the figures."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.db.models import F, Q

from mining.artefact import iter_columns
from mining.compare import (
    CHANGES,
    Change,
    Comparison,
    Figures,
    adjusted,
    compare,
)
from mining.exceptions import ArtefactError
from mining.pairing import (
    Differences,
    Ints,
    Pairs,
    ScanColumns,
    leaked,
    pair,
    read_columns,
)
from mining.statistics import Interval
from reviewapp.exceptions import Refused
from reviewapp.models import Comparison as ComparisonRow
from reviewapp.models import (
    Dataset,
    Finding,
    FixItem,
    ModelVersion,
    Review,
    Sample,
    Scan,
    Verdict,
)
from reviewapp.storage import fetch_file, scratch_folder

logger = logging.getLogger(__name__)

IMAGES: Final = 240  # of each cell
CONFUSIONS: Final = 200  # of each kind of change
CLASSES: Final = 1000
CELLS: Final = ("both_right", "fixed", "broken", "both_wrong")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Samples among those compared that somebody has reviewed or trained on.

    Attributes:
        ids: int64, all of them.
        reviewed: How many look like a reviewed image, or are one.
        trained: How many look like an image of a fix set that a version was trained on.
        unhashed: Marked images without a known perceptual hash: copies of them are
            found, images that look like them are not.
    """

    ids: Ints
    reviewed: int
    trained: int
    unhashed: int


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """All that is known of two scans side by side.

    Attributes:
        pairs: The samples.
        whole: The comparison over all of them.
        without: The same without the samples seen before; None when there are none, or
            no others.
        seen: The samples seen before.
    """

    pairs: Pairs
    whole: Comparison
    without: Comparison | None
    seen: Seen


def require_comparable(baseline: Scan, candidate: Scan) -> None:
    """Raise unless these are two finished scans of one data set.

    Raises:
        Refused: They are not.
    """
    if baseline.pk == candidate.pk:
        raise Refused("A scan cannot be compared with itself. Choose two scans.")
    if baseline.dataset_id != candidate.dataset_id:
        raise Refused(
            f"Scan {baseline.pk} and scan {candidate.pk} are of two data sets. Nothing "
            "was compared. Scan the same data set with both models."
        )
    for scan in (baseline, candidate):
        if not scan.is_done:
            raise Refused(
                f"Scan {scan.pk} is {scan.state}. Nothing was compared. Wait until it is "
                "done, or resume it."
            )


def compare_scans(
    *, baseline: Scan, candidate: Scan, labels: str, common: bool = False
) -> Compared:
    """Compare two finished scans of one data set from their artefacts.

    Args:
        baseline: What the candidate is held against.
        candidate: The scan in question.
        labels: Of `Comparison.Labels`; both scans are scored with them.
        common: Leave out the samples that differ instead of refusing.

    Raises:
        Refused: The two cannot be compared at all.
        ScansDiffer: A sample is missing in one, or has another label or image there.
        NothingToCompare: No sample is left.
        ArtefactError: An artefact is damaged or gone.
        OSError: The storage could not be read.
    """
    require_comparable(baseline, candidate)
    with scratch_folder() as folder:
        ours, theirs = (columns_of(scan, folder) for scan in (baseline, candidate))
    given = given_labels(baseline.dataset, labels)
    pairs = pair(ours, theirs, labels=given, intersection=common)
    whole = compare(pairs, most=IMAGES)
    seen = _seen(pairs, baseline, candidate, [ours, theirs])
    without = None
    if 0 < len(seen.ids) < whole.n:
        without = compare(pairs, without=seen.ids, most=0)
    return Compared(pairs, whole, without, seen)


def figures_of(compared: Compared) -> dict[str, Any]:
    """Return the numbers of a comparison as JSON; shares are 0-1.

    `seen.without` has the same figures without the samples seen before, or null.
    """
    pairs, whole, seen = compared.pairs, compared.whole, compared.seen
    without = compared.without
    return {
        **summary_of(whole),
        "left_out": pairs.left_out.count,
        "unreadable": pairs.unreadable,
        "relabelled": pairs.relabelled,
        "changes": whole.confusions.counts(),
        "seen": {
            "samples": len(seen.ids),
            "reviewed": seen.reviewed,
            "trained": seen.trained,
            "unhashed": seen.unhashed,
            "without": summary_of(without) if without else None,
        },
    }


def details_of(compared: Compared) -> dict[str, Any]:
    """Return the tables of a comparison as JSON.

    `images`: cell -> the first [sample id, true, baseline's class, candidate's class].
    `classes`: [class, samples, precision, recall and F1 of the baseline, of the
    candidate], the F1 that changed most first. `confusions`: change -> [actual,
    predicted, before, after, both, p, p by Holm over all confusions of both].
    """
    whole = compared.whole
    return {
        "images": {
            name: _images(compared.pairs, getattr(whole, name).ids) for name in CELLS
        },
        "classes": _classes(whole),
        "confusions": _confusions(whole),
        "left_out": differences_of(compared.pairs.left_out),
    }


def differences_of(differences: Differences) -> dict[str, dict[str, Any]]:
    """Return why samples cannot be compared as JSON: reason -> count and first keys."""
    rows: dict[str, dict[str, Any]] = asdict(differences)
    return {name: row for name, row in rows.items() if row["count"]}


def columns_of(scan: Scan, folder: Path) -> ScanColumns:
    """Read what a comparison needs of a finished scan, by way of a local folder.

    Raises:
        ArtefactError: The artefact is damaged or gone.
        OSError: The storage could not be read.
    """
    return read_columns(_fetched(scan, folder))


def _fetched(scan: Scan, folder: Path) -> Path:
    path = folder / f"{scan.pk}.parquet"
    try:
        fetch_file(scan.artefact, path)
    except FileNotFoundError as error:
        raise ArtefactError(
            f"The outcomes of scan {scan.pk} are not in the storage any more. Nothing "
            f"was compared. Bring {scan.artefact} back, or scan again."
        ) from error
    return path


def given_labels(dataset: Dataset, labels: str) -> dict[int, str]:
    """Return sample id -> label of what was ever corrected.

    A scan before a correction and one after it have different labels of the sample. All
    others have the label that both scans took from the data set's source.
    """
    is_original = labels == ComparisonRow.Labels.ORIGINAL
    field = "original_label__name" if is_original else "label__name"
    relabelled = Review.objects.for_dataset(dataset).filter(verdict=Verdict.RELABEL)
    corrected = Sample.objects.filter(dataset=dataset).filter(
        ~Q(label=F("original_label")) | Q(pk__in=relabelled.values("finding__sample"))
    )
    return dict(corrected.values_list("pk", field))


def _seen(
    pairs: Pairs, baseline: Scan, candidate: Scan, tables: list[ScanColumns]
) -> Seen:
    dataset = baseline.dataset
    findings = Finding.objects.for_dataset(dataset).reviewed().order_by()
    reviewed = set(findings.values_list("digest", flat=True).distinct())
    items = FixItem.objects.filter(fix_set__in=fix_sets(baseline, candidate))
    trained = set(items.order_by().values_list("digest", flat=True).distinct())
    known = hashes_of(reviewed | trained, dataset, (baseline, candidate), tables)
    by_review, by_training = (
        leaked(
            pairs,
            digests=marked,
            phashes={known[digest] for digest in marked if digest in known},
        )
        for marked in (reviewed, trained)
    )
    return Seen(
        ids=np.union1d(by_review, by_training),
        reviewed=len(by_review),
        trained=len(by_training),
        unhashed=len((reviewed | trained) - known.keys()),
    )


def fix_sets(*scans: Scan) -> set[int]:
    """Return the fix sets that the versions, or earlier ones of the models, learned."""
    wanted = Q()
    for version in (scan.model_version for scan in scans):
        wanted |= Q(
            registered_model=version.registered_model, number__lte=version.number
        )
    trained = ModelVersion.objects.filter(wanted, trained_on__isnull=False)
    return set(trained.order_by().values_list("trained_on", flat=True))


def hashes_of(
    marked: set[str],
    dataset: Dataset,
    compared: Sequence[Scan],
    tables: list[ScanColumns],
) -> dict[str, int]:
    """Return digest -> perceptual hash, as far as the scans of the data set know it."""
    known: dict[str, int] = {}
    for table in tables:
        known |= _hashes_in(table.digest, table.phash, marked)
    # What was trained on is mostly of another split, which the two have not seen.
    last = (
        Scan.objects.for_dataset(dataset)
        .finished()
        .exclude(pk__in=[scan.pk for scan in compared])
        .exclude(artefact="")
        .order_by("split", "-id")
        .distinct("split")
    )
    for scan in last:
        if missing := marked - known.keys():
            known |= _hashes_by(scan, missing)
    return known


def _hashes_by(scan: Scan, marked: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    try:
        with scratch_folder() as folder:
            path = _fetched(scan, folder)
            for table in iter_columns(path, ["digest", "phash"]):
                found |= _hashes_in(table["digest"], table["phash"], marked)
    except (ArtefactError, OSError) as error:
        logger.warning("%s: its hashes are not known (%s)", scan, error)
    return found


def _hashes_in(
    digests: pa.Array, phashes: pa.Array, marked: Collection[str]
) -> dict[str, int]:
    wanted = pa.array(list(marked), pa.string())
    mask = pc.and_(pc.is_in(digests, value_set=wanted), pc.is_valid(phashes))
    found = zip(digests.filter(mask), phashes.filter(mask), strict=True)
    return {digest.as_py(): phash.as_py() for digest, phash in found}


def summary_of(found: Comparison) -> dict[str, Any]:
    """Return the numbers of a comparison as JSON; shares are 0-1."""
    difference = found.difference
    return {
        "samples": found.n,
        "baseline": _side(found.baseline),
        "candidate": _side(found.candidate),
        "difference": {
            "value": difference.difference,
            **_ends(difference.interval),
            "p": difference.p,
            "macro_f1": found.candidate.macro_f1 - found.baseline.macro_f1,
        },
        "negative_flip_rate": found.negative_flip_rate,
        **{name: getattr(found, name).count for name in CELLS},
    }


def _side(figures: Figures) -> dict[str, Any]:
    return {
        "right": figures.right,
        "accuracy": figures.accuracy,
        **_ends(figures.interval),
        "macro_f1": figures.macro_f1,
    }


def _ends(interval: Interval) -> dict[str, float]:
    return {"low": interval.low, "high": interval.high}


def _images(pairs: Pairs, ids: Ints) -> list[list[Any]]:
    places = np.flatnonzero(np.isin(pairs.id, ids))  # both are in the pairs' order
    columns = (pairs.true, pairs.baseline, pairs.candidate)
    return [
        [int(pairs.id[place]), *(pairs.classes[column[place]] for column in columns)]
        for place in places
    ]


def _classes(found: Comparison) -> list[list[Any]]:
    before, after = found.baseline, found.candidate
    moved = np.nan_to_num(np.abs(after.f1 - before.f1), nan=-1.0)
    order = np.lexsort((-found.support, -moved))
    is_there = (found.support + before.predicted + after.predicted) > 0
    columns = [
        getattr(side, name)
        for side in (before, after)
        for name in ("precision", "recall", "f1")
    ]
    return [
        [
            found.classes[place],
            int(found.support[place]),
            *(_share(column[place]) for column in columns),
        ]
        for place in order[is_there[order]][:CLASSES]
    ]


def _share(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _confusions(found: Comparison) -> dict[Change, list[list[Any]]]:
    by_holm = adjusted(found.confusions)
    return {
        change: [
            [
                row.actual,
                row.predicted,
                *(row.before, row.after, row.both),
                row.p,
                by_holm[row.p],
            ]
            for row in found.confusions.rows(CONFUSIONS, change=change)
        ]
        for change in CHANGES
    }
