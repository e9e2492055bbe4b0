"""A model version is retrained, registered and scanned, whatever happens meanwhile."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import safetensors.torch
from django.core.files.storage import default_storage
from django.utils import timezone

from mining.exceptions import ArtefactError, ClassMismatch
from mining.recipe import Recipe as MiningRecipe
from reviewapp import retraining, tasks, training_places
from reviewapp.actions.training import (
    beat_training,
    cancel_training,
    claim_training,
    forgotten_trainings,
    note_saved,
    requeue_silent_trainings,
    resume_training,
    start_training,
)
from reviewapp.actions.verifying import start_due_scans
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Event,
    Label,
    ModelVersion,
    Notice,
    Recipe,
    Sample,
    Scan,
    TrainingRun,
)
from reviewapp.retraining import train_run
from tests import factories, schooling
from tests.faults import long_ago
from tests.schooling import QUICK, start

State = TrainingRun.State


@pytest.fixture
def version(data_root, model_root, staff) -> ModelVersion:
    return schooling.school(data_root, model_root, staff)


@pytest.fixture
def dataset(version):
    return version.registered_model.dataset


@pytest.fixture
def recipe(dataset, staff) -> Recipe:
    return schooling.add_recipe(dataset, staff)


@pytest.fixture(autouse=True)
def nothing_is_sent(sent) -> None:
    """No broker: the tests call the tasks."""


def claim(run: TrainingRun) -> TrainingRun:
    claimed = claim_training(run_id=run.pk, worker="w")
    assert claimed is not None
    return claimed


def trained(run: TrainingRun) -> TrainingRun:
    """Run it as a worker does, and return it anew."""
    tasks.run_training(run.pk)
    run.refresh_from_db()
    assert run.state == State.DONE, run.message
    return run


def stored(run: TrainingRun) -> list[str]:
    folder = Path(default_storage.path(f"training/{run.pk:06d}"))
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def published(model_root: Path) -> list[str]:
    return sorted(path.name for path in model_root.glob("retrained/**/*.*"))


# --- from start to scan ---------------------------------------------------------------


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


# --- stopped, lost and resumed --------------------------------------------------------


@pytest.fixture
def reference(version, recipe) -> ModelVersion:
    """What an undisturbed run makes."""
    return trained(start(version, recipe)).version


def test_a_cancelled_run_stops_at_the_next_step_and_goes_on_to_the_same_weights(
    version, recipe, reference, monkeypatch, staff
):
    monkeypatch.setattr("reviewapp.pulse.ASK_SECONDS", 0)
    run = start(version, recipe)
    steps = []

    def watch(epoch, done, of_all):
        steps.append((epoch, done, of_all))
        if len(steps) == 6:  # in the second of three epochs
            cancel_training(run=TrainingRun.objects.get(pk=run.pk), by=staff)

    assert not train_run(claim(run), watch=watch)
    assert steps[5][0] == 2
    assert len(steps) == 6
    run.refresh_from_db()
    assert (run.state, run.version) == (State.CANCELLED, None)
    assert "Stopped by staff. Its last whole epoch is kept" in run.message
    assert stored(run) == [Path(run.saved).name]
    resume_training(run=run, by=staff)
    assert trained(run).version == reference
    assert stored(run) == []


def test_a_worker_that_was_given_up_writes_nothing_when_it_wakes_up(
    version, recipe, reference, monkeypatch
):
    monkeypatch.setattr("reviewapp.pulse.ASK_SECONDS", 3600)  # it does not hear of it
    run = start(version, recipe)
    sleeper = claim(run)

    def overtake(epoch, done, of_all):
        if (epoch, done) != (1, 8):
            return
        TrainingRun.objects.filter(pk=run.pk).update(heartbeat_at=long_ago())
        assert requeue_silent_trainings() == [run.pk]
        trained(TrainingRun.objects.get(pk=run.pk))

    assert not train_run(sleeper, watch=overtake)
    run.refresh_from_db()
    assert (run.state, run.attempts, run.losses) == (State.DONE, 2, 0)
    assert run.version == reference
    assert [epoch["epoch"] for epoch in run.epochs] == [1, 2, 3]
    assert stored(run) == []


def test_a_run_is_claimed_once(version, recipe):
    run, at = start(version, recipe), timezone.now()
    first = claim_training(run_id=run.pk, worker="a", at=at)
    assert first.attempts == 1
    assert claim_training(run_id=run.pk, worker="b", at=at) is None
    again = claim_training(run_id=run.pk, worker="a", at=at)  # its answer was lost
    assert again.attempts == 1
    assert TrainingRun.objects.held(first).exists()


def test_two_runs_of_one_parent_can_be_under_way(version, recipe):
    assert claim(start(version, recipe)) != claim(start(version, recipe))


def test_a_silent_run_is_given_back_until_it_was_lost_too_often(
    version, recipe, settings
):
    settings.SHARD_MAX_LOSSES = 2
    run = start(version, recipe)
    assert requeue_silent_trainings() == []
    for losses, state in ((1, State.QUEUED), (2, State.FAILED)):
        lost = claim(run)
        TrainingRun.objects.update(heartbeat_at=long_ago())
        assert requeue_silent_trainings() == ([run.pk] if losses == 1 else [])
        run.refresh_from_db()
        assert (run.losses, run.state) == (losses, state)
        assert "w was not heard of after" in run.message
        assert not beat_training(run=lost, progress={})
    assert "it can be resumed" in run.message
    assert resume_training(run=run, by=None).losses == 0


def test_waiting_runs_are_sent_again_when_messages_are_missing(version, recipe):
    run = start(version, recipe)
    assert forgotten_trainings(messages=0) == []
    TrainingRun.objects.update(requested_at=timezone.now() - timedelta(hours=1))
    assert forgotten_trainings(messages=0) == [run.pk]
    assert forgotten_trainings(messages=1) == []
    assert forgotten_trainings(messages=None) == []


def test_the_sweep_sends_them(version, recipe, sent):
    run = claim(start(version, recipe))
    TrainingRun.objects.update(heartbeat_at=long_ago())
    tasks.recover_lost_work()
    assert ("run_training", run.pk) in sent


def test_it_begins_anew_when_the_data_set_changed_in_between(
    version, dataset, recipe, monkeypatch, staff
):
    monkeypatch.setattr("reviewapp.pulse.ASK_SECONDS", 0)
    run = start(version, recipe)

    def watch(epoch, done, of_all):
        if epoch == 2:
            cancel_training(run=TrainingRun.objects.get(pk=run.pk), by=staff)

    assert not train_run(claim(run), watch=watch)
    cat = Label.objects.get(dataset=dataset, name="cat")
    moved = Sample.objects.filter(dataset=dataset, key="train/dog/07.png")
    moved.update(label=cat)
    resume_training(run=run, by=staff)
    after = trained(run)
    (note,) = after.outcome["notes"]
    assert note.startswith("The data set changed since it was begun")
    assert trained(start(version, recipe)).version == after.version


# --- what goes wrong ------------------------------------------------------------------


def test_a_place_that_cannot_be_written_fails_the_run_before_it_trains(
    version, recipe, model_root, reference
):
    run = start(version, recipe)
    (model_root / "retrained").rename(model_root / "aside")
    (model_root / "retrained").write_text("a file where a folder should be")
    tasks.run_training(run.pk)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "retrained/school" in run.message
    assert "cannot be written" in run.message
    assert "resume the run" in run.message
    assert (run.epochs, run.version) == ([], None)
    (model_root / "retrained").unlink()
    (model_root / "aside").rename(model_root / "retrained")
    resume_training(run=run, by=None)
    assert trained(run).version == reference


def test_a_disk_that_is_full_at_the_end_keeps_what_was_learned(
    version, recipe, model_root, reference, monkeypatch
):
    run = start(version, recipe)

    def full(source, target):
        Path(target).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(training_places.shutil, "copyfile", full)
        tasks.run_training(run.pk)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "the disk is full. Nothing was half-written" in run.message
    assert not [name for name in published(model_root) if name.startswith(f"{run.pk}-")]
    assert len(run.epochs) == 3
    assert stored(run)
    resume_training(run=run, by=None)
    seen = []
    assert train_run(claim(run), watch=lambda *step: seen.append(step))
    assert seen == []  # no epoch was trained again
    run.refresh_from_db()
    assert run.version == reference


def test_a_storage_that_takes_no_state_fails_the_run(version, recipe, monkeypatch):
    def full(name, data):
        raise ArtefactError(f"{name} could not be stored: the disk is full.")

    monkeypatch.setattr(retraining, "store_bytes", full)
    run = start(version, recipe)
    tasks.run_training(run.pk)
    run.refresh_from_db()
    assert (run.state, run.version) == (State.FAILED, None)
    assert "the disk is full" in run.message


def test_a_state_that_is_gone_is_made_again(version, recipe, reference, staff):
    run = start(version, recipe)
    claimed = claim(run)
    assert note_saved(run=claimed, name="training/gone.safetensors")
    cancel_training(run=claimed, by=staff)
    resume_training(run=run, by=staff)
    assert trained(run).version == reference


def test_a_checkpoint_that_is_not_the_registered_one_is_refused(version, recipe):
    schooling.write_pupil(Path(version.checkpoint))
    weights = safetensors.torch.load_file(version.checkpoint)
    weights["head.bias"] += 1
    safetensors.torch.save_file(weights, version.checkpoint)
    run = start(version, recipe)
    tasks.run_training(run.pk)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "not the file that was registered any more" in run.message


def test_samples_that_the_data_set_has_lost_are_named(version, dataset, recipe):
    lost = Sample.objects.filter(dataset=dataset, key="train/fox/01.png")
    lost.update(removed_at=timezone.now())
    run = start(version, recipe, with_control=True)
    for one in (run, run.controls.get()):
        tasks.run_training(one.pk)
        one.refresh_from_db()
        assert one.state == State.FAILED
        assert "has lost 1 samples of the recipe, such as train/fox/01.png" in (
            one.message
        )


@pytest.mark.parametrize("other", [None, "train/dog/06.png"])
def test_an_image_that_is_not_the_registered_one_is_left_out(
    version, recipe, data_root, other
):
    school = data_root / "school"
    data = (school / other).read_bytes() if other else b"\x89PNG\r\n"
    (school / "train/cat/05.png").write_bytes(data)
    run = trained(start(version, recipe))
    assert run.outcome["unreadable"] == 1
    assert "train/cat/05.png" in run.outcome["notes"][0]


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


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"settings": {"epochs": 0}}, "Training settings: epochs"),
        ({"settings": {"lrr": 1}}, "unknown fields: lrr"),
        ({"scan_split": "all"}, "no split 'all'"),
    ],
)
def test_it_refuses_settings_that_cannot_be(version, recipe, options, why):
    with pytest.raises(Refused, match=why):
        start(version, recipe, **options)
    assert not TrainingRun.objects.exists()


def test_it_refuses_what_cannot_be_trained(version, dataset, recipe, staff):
    onnx = ModelVersion(registered_model=version.registered_model, format="onnx")
    with pytest.raises(Refused, match="ONNX, which cannot be trained on"):
        start(onnx, recipe)
    other = factories.ModelVersionFactory(format="safetensors")
    with pytest.raises(Refused, match="not a version of a model of School"):
        start_training(
            dataset=dataset, parent=other, recipe=recipe, by=None, settings=QUICK
        )
    elsewhere = factories.DatasetFactory()
    theirs = elsewhere.fix_sets.create(name="theirs", created_by=staff)
    with pytest.raises(Refused, match="is of another data set"):
        start(version, Recipe(fix_set=theirs, state="done"))
    waiting = Recipe(fix_set=recipe.fix_set, state="queued")
    with pytest.raises(Refused, match=r"is queued.* when it is done"):
        start(version, waiting)
    with pytest.raises(Refused, match="Only a recipe has a control"):
        start(version, None, with_control=True)
    with pytest.raises(Refused, match="only the whole train split"):
        start(version, None, settings={"rest": False})
    Sample.objects.filter(dataset=dataset, split="train").update(split="")
    with pytest.raises(Refused, match="no samples in the split train"):
        start(version, None)
    Sample.objects.filter(dataset=dataset, split="test").update(split="")
    with pytest.raises(Refused, match="no samples in the split test"):
        start(version, recipe)
    Label.objects.filter(dataset=dataset, name="fox").update(name="vixen")
    with pytest.raises(ClassMismatch, match="renamed"):
        start(version, recipe)
    assert not TrainingRun.objects.exists()


def test_only_what_ended_is_resumed_and_only_what_goes_on_is_cancelled(version, recipe):
    run = start(version, recipe)
    with pytest.raises(Refused, match=rf"Training run {run.pk} is queued: nothing"):
        resume_training(run=run, by=None)
    cancel_training(run=run, by=None)
    with pytest.raises(Refused, match=rf"Training run {run.pk} is cancelled already"):
        cancel_training(run=run, by=None)
    assert claim_training(run_id=run.pk, worker="w") is None


def test_a_control_without_its_draw_has_no_recipe_yet(version, recipe):
    run = start(version, recipe, with_control=True)
    with pytest.raises(ValueError, match="has not drawn its samples yet"):
        run.controls.get().load_recipe()
    assert run.load_recipe() == MiningRecipe.from_dict(json.loads(recipe.content))


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
