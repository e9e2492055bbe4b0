"""What a recipe is made from, read from the data set and its scans; and what pages show."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from django.db import connection
from django.db.models import Count, F

from mining.artefact import iter_columns
from mining.exceptions import ArtefactError
from mining.recipe import Recipe, Sources
from mining.recipe_making import EasySample
from mining.types import ScanSettings
from reviewapp.candidates import scans_over
from reviewapp.models import (
    Dataset,
    DismissReason,
    Finding,
    FixSet,
    Review,
    Sample,
    Scan,
    Split,
)
from reviewapp.storage import fetch_file, scratch_folder

CONFUSIONS: Final = 200  # of the summary
ROWS: Final = 10_000

_COLUMNS: Final = ("id", "digest", "true", "predicted", "p_true")


@dataclass(frozen=True, slots=True)
class Origin:
    """The scans that a fix set's items are taken from.

    Attributes:
        scans: Split -> the last finished scan that covers it, of the model with most items.
        splits: Of the items.
    """

    scans: dict[str, Scan]
    splits: frozenset[str]

    @property
    def newest(self) -> Scan | None:
        """Return the last of the scans; None when there is none any more."""
        return max(self.scans.values(), key=lambda scan: scan.pk, default=None)


def origin_of(fix_set: FixSet) -> Origin:
    """Return the scans that say which samples the model gets right."""
    splits = frozenset(
        fix_set.items.order_by().values_list("split", flat=True).distinct()
    )
    models = (
        fix_set.items.filter(finding__isnull=False)
        .order_by()
        .values_list("finding__registered_model")
        .annotate(n=Count("id"))
        .order_by("-n", "finding__registered_model")
    )
    first = models.first()
    scans = scans_over(fix_set.dataset, first[0], splits) if first else {}
    return Origin(scans, splits)


def sources_of(fix_set: FixSet, origin: Origin) -> Sources:
    """Return what a recipe is made from."""
    scan = origin.newest
    return Sources(
        scan=str(scan.pk) if scan else "",
        model=scan.model_version.digest if scan else "",
        dataset=dataset_digest(fix_set.dataset),
        fix_set=fix_set.digest,
    )


def dataset_digest(dataset: Dataset) -> str:
    """Return the SHA-256 in hex of what a data set says now.

    Of a line for each sample that it has, as PostgreSQL's COPY writes them, sorted by key:
    key, image's digest, label and split.
    """
    digest = hashlib.sha256()
    with connection.cursor() as cursor, cursor.copy(CONTENT, [dataset.pk]) as copy:
        for block in copy:
            digest.update(block)
    return digest.hexdigest()


CONTENT = """
COPY (SELECT s.key, s.digest, l.name, s.split
        FROM reviewapp_sample s JOIN reviewapp_label l ON l.id = s.label_id
       WHERE s.dataset_id = %s AND s.removed_at IS NULL
       ORDER BY s.key COLLATE "C")
TO STDOUT
"""


def train_counts(dataset: Dataset) -> dict[str, int]:
    """Return class -> samples of the train split, corrections applied."""
    samples = Sample.objects.filter(dataset=dataset).present().in_split(Split.TRAIN)
    rows = samples.order_by().values_list("label__name").annotate(n=Count("id"))
    return dict(rows)


def doubted(dataset: Dataset) -> dict[str, str]:
    """Return key -> why, of samples of the train split that nobody can learn from.

    Those whose finding a standing verdict dismissed as ambiguous or out of scope, while
    their image and label are still the same.
    """
    last = (
        Review.objects.for_dataset(dataset)
        .standing()
        .filter(
            finding__review_state=Finding.ReviewState.DISMISSED,
            finding__sample__split=Split.TRAIN,
            finding__sample__removed_at=None,
            finding__sample__digest=F("finding__digest"),
            finding__sample__label=F("finding__true_label"),
        )
        .order_by("finding_id", "-id")
        .distinct("finding_id")
        .values_list("finding__sample__key", "reason", "causes")
    )
    return {
        key: why
        for key, reason, causes in last.iterator(chunk_size=ROWS)
        for why in UNLEARNABLE
        if why in (reason, *causes)
    }


UNLEARNABLE: Final = (DismissReason.OUT_OF_SCOPE.value, DismissReason.AMBIGUOUS.value)


def easy_samples(
    fix_set: FixSet, origin: Origin, *, on_progress: Callable[[], None]
) -> Iterator[EasySample]:
    """Yield the samples that the scans saw right, and no near misses, each once.

    Only of the items' splits, and only those whose image and label are still the same.

    Args:
        fix_set: Whose recipe is made.
        origin: Its scans.
        on_progress: Called now and then.

    Raises:
        ArtefactError: The outcomes of a scan are damaged or gone.
    """
    splits: dict[int, set[str]] = defaultdict(set)
    for split, scan in origin.scans.items():
        splits[scan.pk].add(split)
    names = dict(fix_set.dataset.labels.values_list("pk", "name"))
    for scan in {scan.pk: scan for scan in origin.scans.values()}.values():
        for rows in _right(scan):
            on_progress()
            yield from _as_they_were(scan, rows, splits[scan.pk], names)


def _right(scan: Scan) -> Iterator[pa.Table]:
    """Yield what a scan saw right and far from a near miss."""
    below = ScanSettings.from_dict(scan.settings).near_miss_below
    with scratch_folder() as folder:
        path = folder / "outcomes.parquet"
        try:
            fetch_file(scan.artefact, path)
        except FileNotFoundError as error:
            raise ArtefactError(
                f"The outcomes of scan {scan.pk} are not in the storage any more, so no "
                f"easy samples are known. The fix set is kept. Bring {scan.artefact} "
                "back, or scan again; or ask for a recipe without easy samples."
            ) from error
        for table in iter_columns(path, _COLUMNS):
            is_right = pc.equal(table["true"], table["predicted"])  # null: unreadable
            is_sure = pc.greater_equal(table["p_true"], below)
            yield table.filter(pc.and_(is_right, is_sure))


def _as_they_were(
    scan: Scan, rows: pa.Table, splits: Collection[str], names: dict[int, str]
) -> Iterator[EasySample]:
    with connection.cursor() as cursor:
        # As one array: ten thousand values apart cost more than the query.
        cursor.execute(NOW, [rows["id"].to_pylist(), scan.dataset_id, list(splits)])
        now = {row[0]: row[1:] for row in cursor.fetchall()}
    for pk, digest, true in zip(
        *(rows[name].to_pylist() for name in ("id", "digest", "true")), strict=True
    ):
        key, *is_now, split = now.get(pk, ("", "", 0, ""))
        if is_now == [digest, scan.classes[true]]:
            yield EasySample(key, digest, names[scan.classes[true]], split)


NOW = """
SELECT id, key, digest, label_id, split FROM reviewapp_sample
 WHERE id = ANY(%s::bigint[]) AND dataset_id = %s AND removed_at IS NULL
   AND split = ANY(%s)
"""


def summary_of(recipe: Recipe, pairs: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return what pages and lists show of a recipe.

    Args:
        recipe: The recipe.
        pairs: Key -> (label, predicted label) of the fix set's items.

    Returns:
        `samples`: role -> how many. `by_class`: [label, weight in the loss, hard,
        corrected, easy, drop]. `by_confusion`: [label, predicted, hard ones], the most
        frequent first. `hints`: hint -> how many. `collection`, `warnings`, `sources`: the
        recipe's. `ignored`: how many losses say nothing.
    """
    roles = Counter(sample.role for sample in recipe.samples)
    by_class = Counter((sample.label, sample.role) for sample in recipe.samples)
    hard = Counter(pairs[s.key] for s in recipe.samples if s.role == "hard")
    return {
        "samples": {role: roles[role] for role in ROLES},
        "by_class": [
            [label, weight, *(by_class[label, role] for role in ROLES)]
            for label, weight in recipe.class_weights.items()
        ],
        "by_confusion": [[*pair, n] for pair, n in hard.most_common(CONFUSIONS)],
        "hints": dict(
            Counter(h for s in recipe.samples for h in s.hints).most_common()
        ),
        "collection": [asdict(line) for line in recipe.collection],
        "warnings": list(recipe.warnings),
        "ignored": len(recipe.ignore),
        "sources": asdict(recipe.sources),
    }


ROLES: Final = ("hard", "corrected", "easy", "drop")
