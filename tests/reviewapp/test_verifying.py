"""What a trained fix set says to the ledger."""

from __future__ import annotations

import hashlib

import pytest

from mining.recipe import Recipe as MiningRecipe
from reviewapp.actions import registry, verifying
from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.runs import claim_run
from reviewapp.actions.verifying import finish_training
from reviewapp.models import Confusion, Finding, Recipe, TrainingRun, Verdict
from tests import factories, schooling
from tests.reviewing import decide


@pytest.fixture
def frozen(world, alice):
    """All three findings cat -> dog, confirmed and frozen, with a recipe."""
    for finding in world.findings:
        decide(finding=finding, by=alice, verdict=Verdict.CONFIRM)
    findings = Finding.objects.all()
    return freeze_fix_set(
        dataset=world.dataset, name="first", findings=findings, by=alice
    )


@pytest.fixture
def recipe(frozen) -> Recipe:
    return Recipe.objects.create(
        fix_set=frozen,
        settings={},
        state="done",
        digest="cd" * 32,
        content=MiningRecipe(samples=()).to_json(),
    )


def finish(recipe: Recipe, world, checkpoint) -> TrainingRun:
    run = factories.TrainingRunFactory(parent=world.scan.model_version, recipe=recipe)
    claimed = claim_run(kind=TrainingRun, run_id=run.pk, worker="w")
    made = finish_training(
        run=claimed, checkpoint=str(checkpoint), epochs=[], outcome={"best_epoch": 1}
    )
    assert made.trained_on == recipe.fix_set
    return claimed


def test_the_confusions_of_a_trained_fix_set_have_their_fix_on_its_way(
    world, recipe, alice, model_root
):
    line = Confusion.objects.get()
    assert (line.state, line.claimed_at) == ("in_review", None)
    run = finish(recipe, world, schooling.write_pupil(model_root / "a.safetensors"))
    line.refresh_from_db()
    assert (line.state, line.claimed_at) == ("fix_exported", run.finished_at)


def test_a_set_claims_its_confusions_once(world, recipe, alice, model_root):
    """What came back since it was exported or trained with is not claimed again."""
    fix_set = recipe.fix_set
    run_export(export=request_export(fix_set=fix_set, format="csv", by=alice))
    Confusion.objects.update(claimed_at=None, state="regressed")
    finish(recipe, world, schooling.write_pupil(model_root / "a.safetensors"))
    assert Confusion.objects.get().claimed_at is None
    run_export(export=request_export(fix_set=fix_set, format="jsonl", by=alice))
    assert Confusion.objects.get().claimed_at is None


def test_a_run_that_was_taken_away_registers_nothing(world, recipe, model_root):
    run = factories.TrainingRunFactory(parent=world.scan.model_version, recipe=recipe)
    claimed = claim_run(kind=TrainingRun, run_id=run.pk, worker="w")
    TrainingRun.objects.update(attempts=2)
    pupil = schooling.write_pupil(model_root / "a.safetensors")
    told = finish_training(run=claimed, checkpoint=str(pupil), epochs=[], outcome={})
    assert told is None
    assert not recipe.fix_set.trained_versions.exists()


def test_a_run_taken_away_while_its_weights_are_hashed_registers_nothing(
    world, recipe, model_root, monkeypatch
):
    run = factories.TrainingRunFactory(parent=world.scan.model_version, recipe=recipe)
    claimed = claim_run(kind=TrainingRun, run_id=run.pk, worker="w")
    pupil = schooling.write_pupil(model_root / "a.safetensors")

    def overtake(url):
        assert url == str(pupil)
        TrainingRun.objects.update(attempts=2)
        return "ab" * 32

    monkeypatch.setattr(verifying, "checkpoint_digest", overtake)
    told = finish_training(run=claimed, checkpoint=str(pupil), epochs=[], outcome={})
    assert told is None
    assert not recipe.fix_set.trained_versions.exists()


def test_the_weights_are_hashed_once(world, recipe, model_root, monkeypatch):
    def again(url):
        raise AssertionError("hashed under the locks")

    monkeypatch.setattr(registry, "checkpoint_digest", again)
    pupil = schooling.write_pupil(model_root / "a.safetensors")
    finish(recipe, world, pupil)
    made = recipe.fix_set.trained_versions.get()
    assert made.digest == hashlib.sha256(pupil.read_bytes()).hexdigest()
