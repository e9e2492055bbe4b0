"""A small data set with three splits, a network to retrain on it, and a recipe."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from django.core.files.storage import default_storage
from django.utils import timezone

from mining import recipe as mining_recipe
from mining.architectures import SmallCnn
from mining.recipe import RecipeSample
from mining.specs import write_spec
from mining.types import ModelSpec, Preprocessing
from reviewapp import tasks
from reviewapp.actions.runs import claim_run
from reviewapp.actions.training import start_training
from reviewapp.models import (
    Dataset,
    FixSet,
    ModelVersion,
    Recipe,
    Sample,
    TrainingRun,
    User,
)
from reviewapp.models.runs import Run
from tests import scanning
from tests.images import LEVELS, SIDE, write_image

COUNTS = {"train": 10, "val": 4, "test": 4}  # of each class
QUICK = {"epochs": 3, "batch_size": 8, "patience": 0, "workers": 1, "device": "cpu"}
GREY = Preprocessing(resize=None, crop=(SIDE, SIDE), mean=(0.5,), std=(0.3,), mode="L")


def write_school(root: Path) -> None:
    """Write `COUNTS` images of each class; in the train split one label is wrong."""
    seed = 0
    for split, n in COUNTS.items():
        for label, level in LEVELS.items():
            for i in range(n):
                write_image(root / split / label / f"{i:02d}.png", level, seed=seed)
                seed += 1
    write_image(root / "train" / "cat" / "99.png", LEVELS["dog"], seed=seed)


def write_pupil(path: Path) -> Path:
    """Write a network that has learned nothing yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = SmallCnn(len(LEVELS))
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(model.state_dict(), path)
    write_spec(str(path), ModelSpec("safetensors", "small_cnn", tuple(LEVELS), GREY))
    return path


def school(data_root: Path, model_root: Path, by: User) -> ModelVersion:
    """Register both and return the version."""
    write_school(data_root / "school")
    dataset = scanning.register(data_root / "school", by, name="School")
    return scanning.add_version(dataset, write_pupil(model_root / "pupil.safetensors"))


def add_recipe_row(dataset: Dataset, by: User, **columns) -> Recipe:
    """Add a frozen fix set without items, and a recipe row that is done."""
    fix_set = FixSet.objects.create(
        dataset=dataset,
        name="night",
        size=4,
        digest="ab" * 32,
        created_by=by,
        frozen_at=timezone.now(),
    )
    given = {"digest": "cd" * 32, "content": "{}"} | columns
    counts = {"hard": 240, "corrected": 3, "easy": 0, "drop": 1}
    return Recipe.objects.create(
        fix_set=fix_set,
        settings={},
        state=Recipe.State.DONE,
        summary={"samples": counts},
        requested_by=by,
        finished_at=timezone.now(),
        **given,
    )


def add_recipe(dataset: Dataset, by: User) -> Recipe:
    """Add a recipe: two hard ones, a correction, a drop and an easy one."""
    lines = [
        line(dataset, "test/cat/00.png", "hard", weight=1.5, repeat=2),
        line(dataset, "train/fox/01.png", "hard", hints=("erase",)),
        line(dataset, "train/cat/99.png", "corrected", label="dog"),
        line(dataset, "train/dog/03.png", "drop"),
        line(dataset, "train/dog/04.png", "easy"),
    ]
    made = mining_recipe.Recipe(
        samples=tuple(sorted(lines, key=lambda one: one.key)),
        class_weights={"cat": 1.1, "dog": 0.9, "fox": 1.0},
        sources=mining_recipe.Sources(fix_set="ab" * 32),
    )
    return add_recipe_row(dataset, by, digest=made.digest, content=made.to_json())


def line(
    dataset: Dataset, key: str, role: mining_recipe.Role, *, label: str = "", **more
) -> RecipeSample:
    sample = Sample.objects.select_related("label").get(dataset=dataset, key=key)
    old = sample.label.name
    return RecipeSample(key, sample.digest, label or old, old, role, **more)


def start(version: ModelVersion, recipe: Recipe | None, **options) -> TrainingRun:
    """Queue a quick run."""
    settings = {**QUICK, **options.pop("settings", {})}
    return start_training(
        dataset=version.registered_model.dataset,
        parent=version,
        recipe=recipe,
        by=recipe and recipe.requested_by,
        settings=settings,
        **options,
    )


def claim(run: TrainingRun) -> TrainingRun:
    claimed = claim_run(kind=TrainingRun, run_id=run.pk, worker="w")
    assert claimed is not None
    return claimed


def trained(run: TrainingRun) -> TrainingRun:
    """Run it as a worker does, and return it anew."""
    tasks.run_training(run.pk)
    run.refresh_from_db()
    assert run.state == run.State.DONE, run.message
    return run


def stored(run: Run) -> list[str]:
    """Return the names of what a run can go on from."""
    folder = Path(default_storage.path(run.folder))
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def published(model_root: Path) -> list[str]:
    """Return the names of trained weights, and of their specs."""
    return sorted(path.name for path in model_root.glob("retrained/**/*.*"))
