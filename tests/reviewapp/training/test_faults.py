"""What goes wrong with a training, and what is refused before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
from django.utils import timezone

from mining.exceptions import ArtefactError, ClassMismatch
from reviewapp import retraining, tasks, training_places
from reviewapp.actions.training import (
    cancel_training,
    note_saved,
    resume_training,
    start_training,
)
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Label,
    ModelVersion,
    Recipe,
    Sample,
    TrainingRun,
)
from reviewapp.retraining import train_run
from tests import factories, schooling
from tests.schooling import QUICK, claim, published, start, stored, trained

State = TrainingRun.State


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
    with pytest.raises(Refused, match="ONNX, which cannot be trained"):
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
