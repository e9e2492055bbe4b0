"""Recipes of frozen sets: made once from the set, its scan and its data set, and kept."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

import jsonschema
import pytest
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.utils import timezone

from mining.recipe import RecipeSettings, recipe_schema
from mining.recipe_making import class_balanced_weights
from reviewapp import tasks
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.recipes import (
    requeue_silent_recipes,
    run_recipe,
    start_recipe,
)
from reviewapp.actions.reviews import undo
from reviewapp.exceptions import Refused
from reviewapp.models import Event, Finding, FixSet, Recipe, Verdict
from reviewapp.recipes import dataset_digest
from tests import factories
from tests.recipes import give_outcomes
from tests.reviewing import decide

CONFIRM, RELABEL = Verdict.CONFIRM, Verdict.RELABEL


@pytest.fixture
def scanned(world, rita, labels):
    """Of the train split two errors are confirmed, one ambiguous, one is relabelled fox.

    Eight dogs and foxes of it are right, as is one cat of the test split.
    """
    world.dataset.samples.update(split="train")
    world.scan.split = ""
    world.add_findings(1)
    one, two, three, four = world.findings
    decide(finding=one, by=rita, verdict=CONFIRM, causes=["pose"])
    decide(finding=two, by=rita, verdict=RELABEL, new_label=labels[2])
    decide(finding=three, by=rita, verdict=CONFIRM)
    decide(finding=four, by=rita, verdict=CONFIRM, causes=["ambiguous"])
    world.dataset.samples.update(split="train")
    world.right = [
        factories.SampleFactory(label=labels[1 + n % 2], split="train")
        for n in range(8)
    ]
    world.right.append(factories.SampleFactory(label=labels[0], split="test"))
    give_outcomes(world.scan, world.right)
    world.scan.save()
    return world


def freeze(world, by, **options) -> Recipe:
    fix_set = freeze_fix_set(
        dataset=world.dataset, name=f"set {FixSet.objects.count()}",
        findings=Finding.objects.all(), by=by, **options,
    )  # fmt: skip
    return fix_set.recipes.get()


def roles(recipe: Recipe) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for sample in recipe.load().samples:
        found.setdefault(sample.role, []).append(sample.key)
    return found


def test_a_frozen_set_has_its_recipe_made(scanned, alice):
    recipe = freeze(scanned, alice)
    assert (recipe.state, recipe.requested_by) == ("queued", alice)
    run_recipe(recipe=recipe)
    assert recipe.state == "done", recipe.message
    one, two, three, four = [finding.sample.key for finding in scanned.findings]
    found = roles(recipe)
    assert {role: found[role] for role in ("hard", "corrected", "drop")} == {
        "hard": [one, three], "corrected": [two], "drop": [four],
    }  # fmt: skip
    assert len(found["easy"]) == 2
    assert set(found["easy"]) < {sample.key for sample in scanned.right[:8]}
    made = recipe.load()
    assert made.ignore == {four: "ambiguous", two: "label_wrong"}
    assert recipe.digest == hashlib.sha256(recipe.content.encode()).hexdigest()
    jsonschema.validate(json.loads(recipe.content), recipe_schema())


def test_what_was_dismissed_as_ambiguous_stays_in_training_but_is_never_mined(
    scanned, alice, rita, labels
):
    right = scanned.right
    dismissed = [
        factories.FindingFactory(
            sample=sample, predicted_label=labels[0], digest=sample.digest,
            registered_model=scanned.scan.model_version.registered_model,
        )
        for sample in right
    ]  # fmt: skip
    reasons = [
        "ambiguous",
        "out_of_scope",
        "duplicate",
        *["ambiguous"] * 4,
        "",
        "ambiguous",
    ]
    for finding, reason in zip(dismissed, reasons, strict=True):
        causes = [] if reason else ["ambiguous"]
        decide(
            finding=finding, by=rita, verdict=Verdict.DISMISS, reason=reason,
            causes=causes,
        )  # fmt: skip
    samples = scanned.dataset.samples
    samples.filter(pk=right[3].pk).update(digest="cd" * 32)
    samples.filter(pk=right[4].pk).update(label=labels[0])
    samples.filter(pk=right[5].pk).update(removed_at=timezone.now())
    undo(review=dismissed[6].reviews.get(), by=rita)
    recipe = run_recipe(recipe=freeze(scanned, alice))
    assert recipe.state == "done", recipe.message
    of_the_set = {scanned.findings[n].sample.key for n in (1, 3)}
    found = recipe.load().ignore
    assert {key: why for key, why in found.items() if key not in of_the_set} == {
        right[0].key: "ambiguous",
        right[1].key: "out_of_scope",
        right[7].key: "ambiguous",  # by its cause; the last one is of the test split
    }


def test_it_says_what_it_was_made_from(scanned, alice):
    recipe = run_recipe(recipe=freeze(scanned, alice))
    sources = recipe.load().sources
    assert (sources.scan, sources.model) == (
        str(scanned.scan.pk), scanned.scan.model_version.digest,
    )  # fmt: skip
    assert sources.fix_set == recipe.fix_set.digest
    assert sources.dataset == dataset_digest(scanned.dataset)
    scanned.dataset.samples.filter(pk=scanned.right[0].pk).update(digest="ab" * 32)
    assert sources.dataset != dataset_digest(scanned.dataset)


def test_the_summary_is_what_the_recipe_says(scanned, alice):
    recipe = run_recipe(recipe=freeze(scanned, alice))
    assert recipe.samples == {"hard": 2, "corrected": 1, "easy": 2, "drop": 1}
    by_class = {row[0]: row[2:] for row in recipe.summary["by_class"]}
    assert by_class["cat"] == [2, 0, 0, 1]
    assert recipe.summary["by_confusion"] == [["cat", "dog", 2]]
    assert recipe.summary["hints"] == {"rotate": 1, "perspective": 1}
    [line] = recipe.summary["collection"]
    assert (line["label"], line["predicted"], line["count"]) == ("cat", "dog", 12)


def test_class_weights_count_the_train_split_as_it_is_labelled_now(scanned, alice):
    recipe = run_recipe(recipe=freeze(scanned, alice))
    counts = {"cat": 3, "dog": 4, "fox": 5}  # one of the cats is a fox
    assert recipe.load().class_weights == class_balanced_weights(counts, beta=0.999)


def test_easy_ones_are_right_sure_of_the_same_split_and_as_they_were(
    scanned, alice, labels
):
    give_outcomes(
        scanned.scan, scanned.right,
        predicted={0: 0, 1: None}, p_true={2: 0.55, 3: 0.6},
    )  # fmt: skip
    for sample, change in (
        (4, {"digest": "cd" * 32}),
        (5, {"removed_at": timezone.now()}),
        (6, {"label": labels[0]}),
    ):
        scanned.dataset.samples.filter(pk=scanned.right[sample].pk).update(**change)
    settings = RecipeSettings(easy_per_hard=50)
    recipe = run_recipe(recipe=freeze(scanned, alice, settings=settings))
    # The last one is of the test split.
    assert roles(recipe)["easy"] == [scanned.right[n].key for n in (3, 7)]
    assert "Easy samples found: 2 of 100 wanted." in recipe.warnings


def test_other_settings_make_another_recipe_and_the_same_ones_the_same(scanned, alice):
    first = run_recipe(recipe=freeze(scanned, alice))
    made = [
        run_recipe(recipe=start_recipe(fix_set=first.fix_set, settings=s, by=alice))
        for s in (RecipeSettings(), RecipeSettings(per_confusion=1))
    ]
    assert made[0].digest == first.digest
    assert made[1].samples["hard"] == 1
    assert made[1].warnings[0].startswith("cat taken for dog: hard samples over")


def test_one_that_waits_is_not_queued_twice(scanned, alice):
    recipe = freeze(scanned, alice)
    again = start_recipe(fix_set=recipe.fix_set, settings=RecipeSettings(), by=alice)
    assert again == recipe
    assert Event.objects.filter(action="recipe asked for").count() == 1
    other = RecipeSettings(seed=1)
    assert start_recipe(fix_set=recipe.fix_set, settings=other, by=alice) != recipe


def test_it_refuses_a_set_that_is_not_frozen(dataset, alice):
    fix_set = FixSet.objects.create(dataset=dataset, name="open", created_by=alice)
    with pytest.raises(Refused, match="not frozen"):
        start_recipe(fix_set=fix_set, settings=RecipeSettings(), by=alice)


def test_the_database_refuses_to_change_one_that_is_done(scanned, alice):
    recipe = run_recipe(recipe=freeze(scanned, alice))
    rows = Recipe.objects.filter(pk=recipe.pk)
    for change in (
        {"content": "{}"},
        {"state": "queued", "digest": ""},
        {"summary": {}},
    ):
        with pytest.raises(IntegrityError, match="done"), transaction.atomic():
            rows.update(**change)
    rows.update(requested_by=None)  # an account may go


def test_lost_outcomes_fail_it_and_say_what_to_do(scanned, alice):
    recipe = freeze(scanned, alice)
    default_storage.delete(scanned.scan.artefact)
    run_recipe(recipe=recipe)
    assert (recipe.state, recipe.digest) == ("failed", "")
    assert "scan again; or ask for a recipe without easy samples" in recipe.message
    without = RecipeSettings(easy_per_hard=0)
    other = start_recipe(fix_set=recipe.fix_set, settings=without, by=alice)
    assert run_recipe(recipe=other).samples["easy"] == 0


def test_without_a_scan_there_are_no_easy_samples_and_it_is_said(scanned, alice):
    scanned.scan.artefact = ""
    scanned.scan.save()
    recipe = run_recipe(recipe=freeze(scanned, alice))
    assert recipe.warnings == ["Easy samples found: 0 of 2 wanted."]
    assert recipe.load().sources.scan == ""


def test_test_samples_are_warned_of(scanned, alice):
    finding = scanned.findings[0]
    scanned.dataset.samples.filter(pk=finding.sample_id).update(split="test")
    recipe = run_recipe(recipe=freeze(scanned, alice))
    assert recipe.warnings[-1].startswith("Samples of the test split: 1.")


def test_run_twice_it_does_nothing_the_second_time(scanned, alice):
    recipe = run_recipe(recipe=freeze(scanned, alice))
    finished = recipe.finished_at
    assert run_recipe(recipe=recipe).finished_at == finished


def test_one_that_was_given_up_does_not_write_over_its_successor(
    scanned, alice, monkeypatch
):
    recipe = freeze(scanned, alice)

    def lose(dataset):
        Recipe.objects.update(state="queued")
        return {}

    monkeypatch.setattr("reviewapp.actions.recipes.train_counts", lose)
    assert run_recipe(recipe=recipe).state == "queued"


def test_lost_ones_are_sent_again_and_fresh_ones_are_not(scanned, alice, sent):
    recipe = freeze(scanned, alice)
    assert requeue_silent_recipes() == []
    rows = Recipe.objects.filter(pk=recipe.pk)
    ago = timezone.now() - timedelta(hours=2)
    rows.update(state="running", created_at=ago, heartbeat_at=timezone.now())
    assert requeue_silent_recipes() == []
    rows.update(heartbeat_at=ago)
    tasks.recover_lost_work()
    assert ("make_recipe", recipe.pk) in sent
    tasks.make_recipe(recipe.pk)
    tasks.make_recipe(0)
    recipe.refresh_from_db()
    assert recipe.is_done
