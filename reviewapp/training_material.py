"""What a training run trains with: its recipe, and the samples as the data set has them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db.models import Q

from mining.exceptions import MiningError
from mining.recipe import Recipe
from mining.recipe_making import EasySample, random_recipe
from mining.sources import url_for
from mining.training.settings import TrainSample, TrainSettings
from reviewapp.actions.training import keep_control
from reviewapp.models import Sample, Split, TrainingRun

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Material:
    """What a run trains with.

    Attributes:
        recipe: None: the train split as it is.
        train: The train split and what the recipe names elsewhere, by key.
        val: The val split without the recipe's samples, by key.
        digest: SHA-256 in hex of the samples, their labels and their images.
    """

    recipe: Recipe | None
    train: tuple[TrainSample, ...]
    val: tuple[TrainSample, ...]
    digest: str


def gather(run: TrainingRun) -> Material:
    """Return what a claimed run trains with; a control draws its samples once.

    Raises:
        MiningError: The data set has lost samples of the recipe.
    """
    labels = _labels_before(run)
    recipe = _recipe_of(run, labels)
    named = {line.key for line in recipe.samples} if recipe else set()
    rows = _rows(run, Q(split__in=(Split.TRAIN, Split.VAL)) | Q(key__in=named), labels)
    _require(named, rows)
    train = [row for row in rows if row.split == Split.TRAIN or row.key in named]
    val = [row for row in rows if row.split == Split.VAL and row.key not in named]
    root = run.dataset.root
    return Material(
        recipe=recipe,
        train=tuple(_sample(root, row) for row in train),
        val=tuple(_sample(root, row) for row in val),
        digest=_digest(train, val),
    )


def _labels_before(run: TrainingRun) -> dict[str, str]:
    """Return key -> label where the data set's own is not to be used.

    A control must not profit from what reviewers corrected: it has the old labels.
    """
    source = run.control_of and run.control_of.recipe
    if not source:
        return {}
    lines = source.load().samples
    return {line.key: line.old_label for line in lines if line.role == "corrected"}


def _recipe_of(run: TrainingRun, labels: dict[str, str]) -> Recipe | None:
    source = run.control_of and run.control_of.recipe
    if not source or run.content:
        return run.load_recipe()
    original = source.load()
    named = {line.key for line in original.samples}
    present = Sample.objects.present().filter(dataset=run.dataset_id)
    splits = set(present.filter(key__in=named).values_list("split", flat=True))
    candidates = _rows(run, Q(split__in=splits), labels)
    _require(named, candidates)
    seed = TrainSettings.from_dict(run.settings).seed
    drawn = random_recipe(original, candidates, seed=seed)
    keep_control(run=run, content=drawn.to_json())
    return drawn


def _rows(run: TrainingRun, wanted: Q, labels: dict[str, str]) -> list[EasySample]:
    """Return present samples, sorted by key as Python does it on every machine."""
    present = Sample.objects.present().filter(wanted, dataset=run.dataset_id)
    columns = present.values_list("key", "digest", "label__name", "split")
    found = [
        EasySample(key, digest, labels.get(key, label), split)
        for key, digest, label, split in columns.iterator(chunk_size=10_000)
    ]
    return sorted(found, key=lambda row: row.key)


def _require(named: Collection[str], rows: Iterable[EasySample]) -> None:
    missing = sorted(set(named) - {row.key for row in rows})
    if missing:
        raise MiningError(
            f"The data set has lost {len(missing):,} samples of the recipe, such as "
            f"{', '.join(missing[:_SHOWN])}. Nothing was trained. Bring them back and "
            "resume the run, or freeze a new fix set."
        )


def _sample(root: str, row: EasySample) -> TrainSample:
    return TrainSample(row.key, url_for(root, row.key), row.label, row.digest)


def _digest(*parts: Iterable[EasySample]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for row in part:
            digest.update(f"{row.key}\0{row.digest}\0{row.label}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()
