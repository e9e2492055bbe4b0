"""A model version is retrained, registered and scanned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mining.exceptions import ArtefactError
from mining.recipe import Recipe as MiningRecipe
from reviewapp import tasks
from reviewapp.actions.verifying import start_due_scans
from reviewapp.models import (
    Event,
    Label,
    Notice,
    Sample,
    Scan,
    TrainingRun,
)
from tests import factories
from tests.faults import long_ago
from tests.schooling import published, start, stored, trained

State = TrainingRun.State


def test_a_run_ends_in_a_version_with_its_lineage_and_two_scans(
    version, dataset, recipe, model_root
):
    run = trained(start(version, recipe))
    made = run.version
    assert (made.registered_model, made.number) == (version.registered_model, 2)
    assert made.note == "net v1 retrained on night."
    assert made.trained_on == recipe.fix_set
    assert made.lineage == {
        "run": run.pk,
        "parent": version.digest,
        "parent_version": 1,
        "fix_set": recipe.fix_set.digest,
        "recipe": recipe.digest,
        "dataset": run.material,
        "settings": run.settings,
        "control": False,
    }
    assert len(run.material) == 64
    assert published(model_root) == [
        f"{run.pk}-1.safetensors",
        f"{run.pk}-1.safetensors.json",
    ]
    assert made.checkpoint == str(
        model_root / f"retrained/school/{run.pk}-1.safetensors"
    )
    assert [epoch["epoch"] for epoch in run.epochs] == [1, 2, 3]
    # 31 in the train split and one of the test split, less the one that is dropped.
    assert (run.outcome["samples"], run.outcome["val_samples"]) == (31, 12)
    assert run.outcome["notes"] == []
    assert (run.saved, stored(run)) == ("", [])
    scan, before = Scan.objects.order_by("id")
    assert run.verifying_scan == scan
    assert (scan.model_version, scan.split, scan.for_record) == (made, "test", False)
    assert (before.model_version, before.split) == (version, "test")
    assert before.for_record
    assert {scan.trigger, before.trigger} == {"training"}
    acts = Event.objects.filter(object_type="TrainingRun").order_by("id")
    assert list(acts.values_list("action", flat=True)) == [
        "training started",
        "training done",
    ]


def test_the_same_run_again_gives_the_same_weights_and_so_the_same_version(
    version, recipe, model_root
):
    first = trained(start(version, recipe))
    again = trained(start(version, recipe))
    other = trained(start(version, recipe, settings={"seed": 1}))
    assert again.version == first.version
    assert other.version != first.version
    names = {name.partition(".")[0] for name in published(model_root)}
    assert names == {f"{first.pk}-1", f"{other.pk}-1"}


def test_a_control_draws_as_many_at_random_and_is_no_version_of_the_model(
    version, dataset, recipe
):
    run = start(version, recipe, with_control=True)
    control = trained(run.controls.get())
    drawn, original = control.load_recipe(), recipe.load()
    assert sorted(line.role for line in drawn.samples) == sorted(
        line.role for line in original.samples
    )
    assert sum(line.key.startswith("test/") for line in drawn.samples) == 1
    assert {line.key for line in drawn.samples} != {
        line.key for line in original.samples
    }
    assert str(control.version) == "net control v1"
    assert control.version.trained_on is None
    assert control.version.lineage["recipe"] == drawn.digest != recipe.digest
    assert control.version.lineage["fix_set"] == recipe.fix_set.digest
    assert version.registered_model.latest_version() == version
    assert control.verifying_scan.for_record
    assert not Scan.objects.filter(model_version=version).exists()


def test_a_control_has_the_labels_from_before_the_corrections(
    version, dataset, recipe, monkeypatch
):
    dog = Label.objects.get(dataset=dataset, name="dog")
    wrong = Sample.objects.filter(dataset=dataset, key="train/cat/99.png")
    wrong.update(label=dog)  # as the verdict relabel does
    run = start(version, recipe, with_control=True)
    seen = {}

    def retrain(*, train, recipe, **options):
        own = {line.key: line.label for line in recipe.samples}
        labels = {one.key: one.label for one in train}
        seen[len(seen)] = (labels | own)["train/cat/99.png"]
        raise ArtefactError("enough seen")

    monkeypatch.setattr("mining.training.trainer.retrain", retrain)
    monkeypatch.setattr("mining.training.retrain", retrain, raising=False)
    for one in (run, run.controls.get()):
        tasks.run_training(one.pk)
    assert seen == {0: "dog", 1: "cat"}


def test_a_plain_run_trains_on_the_train_split_as_it_is(version):
    run = trained(start(version, None))
    assert run.outcome["samples"] == 31
    assert run.version.trained_on is None
    assert run.version.lineage["recipe"] == ""
    assert run.load_recipe() is None


def test_the_trained_version_is_better_and_can_be_scanned(version, recipe, model_root):
    settings = {"epochs": 12, "lr": 0.01, "patience": 12}
    run = trained(start(version, recipe, settings=settings))
    losses = [epoch["val_loss"] for epoch in run.epochs]
    assert min(losses) < losses[0] / 2
    assert run.epochs[run.outcome["best_epoch"] - 1]["val_loss"] == min(losses)
    for scan in Scan.objects.all():
        for shard in scan.shards.all():
            tasks.run_shard(shard.pk)
        tasks.finish_scan(scan.pk)
    run.refresh_from_db()
    assert run.verifying_scan.accuracy == 1.0
    assert Scan.objects.get(model_version=version).accuracy < 0.7


def test_a_control_without_its_draw_has_no_recipe_yet(version, recipe):
    run = start(version, recipe, with_control=True)
    with pytest.raises(ValueError, match="has not drawn its samples yet"):
        run.controls.get().load_recipe()
    assert run.load_recipe() == MiningRecipe.from_dict(json.loads(recipe.content))


# --- the scans afterwards -------------------------------------------------------------


def test_the_scans_wait_for_a_registration(version, dataset, recipe):
    registration = factories.RegistrationFactory(dataset=dataset, state="queued")
    run = trained(start(version, recipe))
    assert run.verifying_scan is None
    assert "its scan has not started yet: School is being registered" in run.message
    assert start_due_scans() == []
    registration.state = "done"
    registration.save()
    tasks.recover_lost_work()
    run.refresh_from_db()
    assert run.verifying_scan.state == "queued"
    assert run.message == ""
    assert start_due_scans() == []
    TrainingRun.objects.update(verifying_scan=None, verify_until=long_ago())
    assert start_due_scans() == []


def test_a_parent_that_was_scanned_over_the_split_is_not_scanned_again(version, recipe):
    factories.ScanFactory(model_version=version, split="test")
    run = trained(start(version, recipe))
    assert list(Scan.objects.filter(trigger="training")) == [run.verifying_scan]


def test_another_scan_of_the_parent_is_waited_for(version, recipe):
    other = factories.ScanFactory(model_version=version, split="val", state="running")
    run = trained(start(version, recipe))
    assert run.verifying_scan is None
    assert f"Scan {other.pk} of net v1" in run.message
    Scan.objects.update(state="done")
    assert len(start_due_scans()) == 2


def test_the_ends_are_told_to_who_wants_to_know(version, dataset, recipe, alice_hook):
    done = trained(start(version, recipe))
    failed = start(version, recipe, settings={"seed": 2})
    Path(version.checkpoint).unlink()
    tasks.run_training(failed.pk)
    first, second = Notice.objects.order_by("id")
    assert first.title == f"Training run {done.pk} of net v1 is done: net v2"
    assert first.path == f"/datasets/school/training/{done.pk}/"
    assert first.data["version"] == 2
    assert second.title == f"Training run {failed.pk} of net v1 failed"
    assert "cannot see" in second.text
    assert second.data["run"]["state"] == "failed"


@pytest.fixture
def alice_hook(dataset):
    return factories.WebhookFactory(dataset=dataset, events=["training.finished"])
