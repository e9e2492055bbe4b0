"""manage.py retrain trains in the terminal, and goes on after Ctrl-C."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from reviewapp import retraining
from reviewapp.management.meter import Meter
from reviewapp.models import TrainingRun
from tests import schooling

QUICK = ["--epochs", "2", "--batch-size", "16", "--workers", "1", "--device", "cpu"]


@pytest.fixture(autouse=True)
def sent_(sent):
    return sent


@pytest.fixture
def version(data_root, model_root, staff):
    return schooling.school(data_root, model_root, staff)


def retrain(*words: str) -> str:
    out = StringIO()
    call_command("retrain", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_it_trains_with_the_newest_recipe_of_a_fix_set_and_says_how(
    version, staff, sent, django_capture_on_commit_callbacks
):
    recipe = schooling.add_recipe(version.registered_model.dataset, staff)
    with django_capture_on_commit_callbacks(execute=True):
        said = retrain("school", "net", "--fix-set", "night", "--control", *QUICK)
    run = TrainingRun.objects.get(recipe=recipe)
    assert f"Training run {run.pk}: net v1" in said
    assert "epoch 1: train loss " in said
    assert said.count("  kept") == 1
    assert f"net v2: {run.version.checkpoint}" in said
    assert f"Scan {run.verifying_scan.pk} verifies it." in said
    assert ("run_training", run.controls.get().pk) in sent
    assert run.state == "done"
    assert run.settings["epochs"] == 2


def test_ctrl_c_keeps_what_was_learned_and_resume_goes_on(version, monkeypatch):
    reached = []

    def interrupt(self: Meter, done: int) -> None:
        reached.append(done)
        if len(reached) == 3:  # in the second epoch, of two steps each
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Meter, "reach", interrupt)
        with pytest.raises(CommandError, match=r"Stopped\. Go on with") as stopped:
            retrain("school", "net", *QUICK)
    run = TrainingRun.objects.get()
    assert str(stopped.value).endswith(f"manage.py retrain --resume {run.pk}")
    assert stopped.value.returncode == 130
    assert run.state == "cancelled"
    assert run.saved
    said = retrain("--resume", str(run.pk))
    run.refresh_from_db()
    assert (run.state, run.attempts) == ("done", 2)
    assert f"{run.version}: " in said


def test_an_error_fails_the_run_and_is_one_line(version, monkeypatch, model_root):
    def gather(run):
        raise OSError("the bucket is away")

    monkeypatch.setattr(retraining, "gather", gather)
    with pytest.raises(OSError, match="the bucket is away"):
        retrain("school", "net", *QUICK)
    run = TrainingRun.objects.get()
    assert (run.state, run.message) == ("failed", "the bucket is away")
    monkeypatch.undo()
    (model_root / "pupil.safetensors").unlink()
    with pytest.raises(CommandError, match="The worker cannot see"):
        retrain("--resume", str(run.pk))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["school"], "Name a data set and a model"),
        (["school", "other"], "no model of School called 'other'"),
        (["school", "net", "--version", "9"], "net has no such version"),
        (["school", "net", "--fix-set", "day"], "no fix set of School called 'day'"),
        (["school", "net", "--fix-set", "bare"], "has no recipe that is done"),
        (["school", "net", "--epochs", "0"], "Training settings: epochs"),
        (["--resume", "77"], "There is no training run 77"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(version, staff, words, why):
    dataset = version.registered_model.dataset
    dataset.fix_sets.create(name="bare", created_by=staff)
    with pytest.raises(CommandError, match=why):
        retrain(*words)
    assert not TrainingRun.objects.exists()
