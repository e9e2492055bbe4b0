"""A training run whose scans are written by hand, letter by letter, without a model."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from mining import recipe as mining_recipe
from reviewapp.models import (
    FixItem,
    FixSet,
    ModelVersion,
    Recipe,
    Sample,
    Scan,
    TrainingRun,
)
from tests import factories
from tests.comparing import add_samples, add_scan


@dataclass
class Told:
    """A run with its scans; `tested` are what they saw, `taught` what was trained on."""

    run: TrainingRun
    control: TrainingRun | None
    before: Scan
    after: Scan
    tested: list[Sample]
    taught: list[Sample]


def tell(
    version: ModelVersion,
    labels,
    by,
    *,
    true: str,
    before: str,
    after: str,
    control: str = "",
    fixes: str = "",
    causes: tuple[str, ...] = ("pose",),
    **tested: object,
) -> Told:
    """Add a done run whose fix set has `fixes`, pairs of letters.

    The label, and what the model took it for; with "!" after it, what the label said
    wrongly; with "-", the same as without, but held aside from the recipe.
    """
    samples = add_samples(labels, true, **tested)
    recipe, taught = (
        _recipe(version, labels, by, fixes, causes) if fixes else (None, [])
    )
    first = add_scan(version, samples, before, split="test")
    later = factories.ModelVersionFactory(
        registered_model=version.registered_model, trained_on=recipe and recipe.fix_set
    )
    second = add_scan(later, samples, after, split="test")
    run = add_run(version, recipe=recipe, version=later, verifying_scan=second)
    other = None
    if control:
        model = factories.RegisteredModelFactory(dataset=run.dataset, name="control")
        random = factories.ModelVersionFactory(registered_model=model)
        scan = add_scan(random, samples, control, split="test", for_record=True)
        other = add_run(
            version,
            control_of=run,
            version=random,
            verifying_scan=scan,
            content=mining_recipe.Recipe(samples=()).to_json(),
        )
    return Told(run, other, first, second, samples, taught)


def add_run(parent: ModelVersion, **fields) -> TrainingRun:
    """Add a run that is done, unless told otherwise."""
    ended = {"state": "done", "finished_at": timezone.now()}
    return factories.TrainingRunFactory(parent=parent, **(ended | fields))


def _recipe(version, labels, by, fixes, causes) -> tuple[Recipe, list[Sample]]:
    by_letter = {label.name[0]: label for label in labels}
    fix_set = FixSet.objects.create(
        dataset=labels[0].dataset, name="night shift", created_by=by
    )
    taught, rows = [], []
    for true, said, *mark in fixes.split():
        right, other = by_letter[true], by_letter[said]
        sample = factories.SampleFactory(label=right, split="train")
        was_wrong = mark == ["!"]
        _item(fix_set, sample, right, other, by, causes, was_wrong=was_wrong)
        taught.append(sample)
        if mark != ["-"]:
            names = (right.name, other.name if was_wrong else right.name)
            role = "corrected" if was_wrong else "hard"
            rows.append(
                mining_recipe.RecipeSample(sample.key, sample.digest, *names, role)
            )
    made = mining_recipe.Recipe(samples=tuple(sorted(rows, key=lambda row: row.key)))
    fix_set.size, fix_set.digest = len(rows), "a" * 64
    fix_set.frozen_at = timezone.now()
    fix_set.save()
    recipe = Recipe.objects.create(
        fix_set=fix_set,
        settings={},
        state="done",
        digest=made.digest,
        content=made.to_json(),
        finished_at=timezone.now(),
    )
    return recipe, taught


def _item(fix_set, sample, right, other, by, causes, *, was_wrong) -> None:
    FixItem.objects.create(
        fix_set=fix_set,
        sample=sample,
        sample_key=sample.key,
        digest=sample.digest,
        split="train",
        original_label=(other if was_wrong else right).name,
        true_label=(other if was_wrong else right).name,
        label=right.name,
        predicted=(right if was_wrong else other).name,
        verdict="relabel" if was_wrong else "confirm",
        causes=list(causes),
        p_true=0.1,
        confidence=0.9,
        reviewer=by.username,
        reviewed_at=timezone.now(),
    )
