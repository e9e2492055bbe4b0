"""Several models judge the train split for one, whatever happens meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.utils import timezone

from mining.artefact import iter_outcomes
from mining.exceptions import ClassMismatch
from mining.training.folds import fold_of
from reviewapp import folding, tasks
from reviewapp.actions.folds import start_folds
from reviewapp.actions.runs import (
    beat_run,
    cancel_run,
    claim_run,
    forgotten_runs,
    requeue_silent_runs,
    resume_run,
)
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Event,
    Finding,
    FoldRun,
    Import,
    Label,
    ModelVersion,
    Sample,
    Scan,
)
from reviewapp.storage import store_bytes
from tests import factories, scanning, schooling
from tests.images import write_brightness_model

State = FoldRun.State
QUICK = {**schooling.QUICK, "epochs": 4, "lr": 0.02}


@pytest.fixture
def version(data_root, model_root, staff) -> ModelVersion:
    return schooling.school(data_root, model_root, staff)


@pytest.fixture
def dataset(version):
    return version.registered_model.dataset


@pytest.fixture(autouse=True)
def nothing_is_sent(sent) -> None:
    """No broker: the tests call the tasks."""


def start(version: ModelVersion, **options) -> FoldRun:
    dataset = version.registered_model.dataset
    given = {"dataset": dataset, "parent": version, "by": None, "folds": 2}
    return start_folds(**given | {"settings": QUICK} | options)


def ended(run: FoldRun) -> FoldRun:
    """Run it as a worker does, and return it anew."""
    tasks.run_folds(run.pk)
    return FoldRun.objects.get(pk=run.pk)


class Killed(BaseException):
    """The process is gone: nobody catches this."""


def test_a_run_ends_in_a_scan_whose_outcomes_have_their_fold(version, dataset, staff):
    run = ended(start(version, by=staff))
    assert (run.state, run.message) == (State.DONE, "")
    scan = run.scan
    assert (scan.folds, scan.split, scan.state) == (2, "train", Scan.State.DONE)
    assert (scan.covers_train, scan.is_in_sample) == (True, False)
    assert scan.message == (
        "Out-of-fold: 2 models, each trained without the images it judges."
    )
    assert scan.model_version.registered_model.name == "net out-of-fold"
    outcomes = list(iter_outcomes(default_storage.path(scan.artefact)))
    assert len(outcomes) == 31
    assert {outcome.fold for outcome in outcomes} == {0, 1}
    assert all(one.fold == fold_of(one.digest, 2) for one in outcomes)
    # The one wrong label is found: no model that judged the image had learnt it.
    wrong = Finding.objects.get(sample__key="train/cat/99.png")
    assert wrong.predicted_label.name == "dog"
    assert scan.errors <= 4
    assert schooling.stored(run) == []
    actions = Event.objects.filter(object_type="FoldRun").order_by("id")
    assert list(actions.values_list("action", flat=True)) == [
        "out-of-fold scan started",
        "out-of-fold scan done",
    ]


def test_a_killed_run_goes_on_with_the_fold_it_was_at(version, monkeypatch):
    run = start(version)
    whole = folding._Steps.step

    def step(self, fold, epoch, done, of_all):
        whole(self, fold, epoch, done, of_all)
        if (fold, epoch) == (2, 3):
            raise Killed

    monkeypatch.setattr(folding._Steps, "step", step)
    with pytest.raises(Killed):
        tasks.run_folds(run.pk)
    assert schooling.stored(run) == ["0.probabilities", "0.state", "1.state"]
    FoldRun.objects.update(heartbeat_at=timezone.now() - timedelta(days=1))
    assert requeue_silent_runs(kind=FoldRun) == [run.pk]
    seen = []

    def watch(self, *step):
        seen.append(step[:2])
        whole(self, *step)

    monkeypatch.setattr(folding._Steps, "step", watch)
    again = ended(run)
    assert again.state == State.DONE, again.message
    assert seen[0] == (2, 3)
    assert {fold for fold, _ in seen} == {2}
    twin = ended(start(version))
    assert twin.scan.model_version == again.scan.model_version  # the same numbers


def test_a_run_killed_while_it_is_recorded_is_recorded_once(version, monkeypatch):
    run = start(version)

    def killed(**_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("reviewapp.folding.run_import", killed)
        with pytest.raises(Killed):
            tasks.run_folds(run.pk)
    FoldRun.objects.update(heartbeat_at=timezone.now() - timedelta(days=1))
    requeue_silent_runs(kind=FoldRun)
    again = ended(run)
    assert again.state == State.DONE, again.message
    first, second = Import.objects.order_by("id")
    assert (first.state, second.state) == (Import.State.FAILED, Import.State.DONE)
    assert Scan.objects.count() == 1


def test_a_registration_meanwhile_makes_no_scan_of_old_images(
    version, dataset, data_root, monkeypatch
):
    run = start(version)

    def change(self, fold, epoch, done, of_all):
        if (fold, epoch, done) == (1, 1, of_all):
            factories.RegistrationFactory(dataset=dataset)

    with monkeypatch.context() as patch:
        patch.setattr(folding._Steps, "step", change)
        failed = ended(run)
    assert failed.state == State.FAILED
    assert "registered again while its folds were judged" in failed.message
    assert not Scan.objects.exists()
    resume_run(run=run, by=None)
    assert ended(run).state == State.DONE


def test_a_registration_while_the_samples_are_read_is_noticed(
    version, dataset, monkeypatch
):
    run = start(version, settings={**QUICK, "epochs": 1})
    registered = []

    def url_for(root, key):
        if not registered:
            registered.append(factories.RegistrationFactory(dataset=dataset))
        return f"{root}/{key}"

    monkeypatch.setattr(folding, "url_for", url_for)
    failed = ended(run)
    assert failed.state == State.FAILED
    assert "registered again while its folds were judged" in failed.message


def test_an_image_that_cannot_be_read_is_an_unreadable_outcome(version, data_root):
    (data_root / "school/train/fox/00.png").write_bytes(b"gone")
    run = ended(start(version, settings={**QUICK, "epochs": 1}))
    assert run.state == State.DONE, run.message
    assert run.scan.unreadable == 1
    assert "train/fox/00.png: the file changed" in run.notes[0]


def test_a_cancelled_run_stops_and_can_be_resumed(version, staff, monkeypatch):
    run = start(version)
    whole = folding._Steps.step

    def step(self, fold, epoch, done, of_all):
        if (fold, epoch, done) == (1, 2, of_all):
            cancel_run(run=FoldRun.objects.get(pk=run.pk), by=staff)
            self.heart._stopped = True  # it asks four times a second
        whole(self, fold, epoch, done, of_all)

    with monkeypatch.context() as patch:
        patch.setattr(folding._Steps, "step", step)
        stopped = ended(run)
    assert stopped.state == State.CANCELLED
    assert "Stopped by staff" in stopped.message
    assert not Import.objects.exists()
    with pytest.raises(Refused, match="cancelled already"):
        cancel_run(run=stopped, by=staff)
    resume_run(run=stopped, by=staff)
    assert ended(run).state == State.DONE
    with pytest.raises(Refused, match="nothing to resume"):
        resume_run(run=run, by=staff)


def test_what_cannot_be_judged_is_refused(version, dataset, model_root, staff):
    other = schooling.write_pupil(model_root / "other.safetensors")
    stranger = factories.ModelVersionFactory()
    graph = scanning.add_version(
        dataset, write_brightness_model(model_root / "1.onnx"), name="graph"
    )
    assert other.exists()
    for given, reason in {
        ("folds", 1): "from 2 to 20 folds",
        ("folds", 21): "from 2 to 20 folds",
        ("settings", (("epochs", 0),)): "epochs must be",
        ("parent", stranger): "not a version of a model of School",
        ("parent", graph): "ONNX, which cannot be trained",
    }.items():
        name, value = given
        value = dict(value) if isinstance(value, tuple) else value
        with pytest.raises(Refused, match=reason):
            start(version, dataset=dataset, **{name: value})
    Sample.objects.filter(split="train").update(split="test")
    with pytest.raises(Refused, match="no samples in the split train"):
        start(version)
    Label.objects.filter(name="fox").update(name="wolf")
    with pytest.raises(ClassMismatch):
        start(version)
    assert not FoldRun.objects.exists()


def test_a_run_that_fails_says_why_and_keeps_its_folds(version, model_root):
    run = start(version)
    (model_root / "pupil.safetensors").unlink()
    failed = ended(run)
    assert failed.state == State.FAILED
    assert "pupil.safetensors" in failed.message
    assert failed.finished_at
    assert Event.objects.filter(action="out-of-fold scan failed").count() == 1


def test_one_worker_has_a_run_and_a_silent_one_loses_it(version, settings):
    run = start(version)
    now = timezone.now()
    held = claim_run(kind=FoldRun, run_id=run.pk, worker="a", at=now)
    assert claim_run(kind=FoldRun, run_id=run.pk, worker="b") is None
    assert claim_run(kind=FoldRun, run_id=run.pk, worker="a", at=now).attempts == 1
    assert beat_run(run=held, progress={"fold": 1})
    assert requeue_silent_runs(kind=FoldRun) == []
    for loss in range(1, settings.SHARD_MAX_LOSSES + 1):
        FoldRun.objects.update(heartbeat_at=now - timedelta(days=1))
        over = loss == settings.SHARD_MAX_LOSSES
        assert requeue_silent_runs(kind=FoldRun) == ([] if over else [run.pk])
        assert not beat_run(run=held, progress={})
        claim_run(kind=FoldRun, run_id=run.pk, worker="a")
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert "it can be resumed" in run.message


def test_the_folds_of_an_old_run_are_removed(version):
    run = cancel_run(run=start(version), by=None)
    store_bytes(f"{run.folder}/0.probabilities", b"a fold")
    tasks.recover_lost_work()
    assert schooling.stored(run) == ["0.probabilities"]
    FoldRun.objects.update(finished_at=timezone.now() - timedelta(days=31))
    tasks.recover_lost_work()
    assert schooling.stored(run) == []


def test_lost_messages_are_sent_again(version, sent):
    run = start(version)
    assert forgotten_runs(kind=FoldRun, messages=0) == []
    FoldRun.objects.update(requested_at=timezone.now() - timedelta(days=1))
    assert forgotten_runs(kind=FoldRun, messages=None) == []
    assert forgotten_runs(kind=FoldRun, messages=1) == []
    assert forgotten_runs(kind=FoldRun, messages=0) == [run.pk]
    tasks.recover_lost_work()
    assert ("run_folds", run.pk) in sent


def test_only_a_scan_of_the_train_split_is_in_sample(version, dataset, model_root):
    graph = scanning.add_version(
        dataset, write_brightness_model(model_root / "1.onnx"), name="graph"
    )
    found = {
        split: scanning.scan(graph, split=split).is_in_sample
        for split in ("train", "test", "")
    }
    assert found == {"train": True, "test": False, "": True}
    Sample.objects.filter(split="train").update(split="val")
    assert not scanning.scan(graph).is_in_sample


def test_the_command_makes_the_scan_here(version, capsys):
    names = {"epochs": "--epochs", "lr": "--lr", "device": "--device"}
    options = [f"{option}={QUICK[name]}" for name, option in names.items()]
    call_command("scan_out_of_fold", "School", "net", "--folds=2", *options)
    shown = capsys.readouterr().out
    assert "Out-of-fold run" in shown
    assert "errors (" in shown
    run = FoldRun.objects.get()
    assert (run.state, run.folds, run.settings["lr"]) == (State.DONE, 2, 0.02)


def test_the_command_stopped_says_how_to_go_on(version, monkeypatch, capsys):
    run = start(version)
    cancel_run(run=run, by=None)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    command = "reviewapp.management.commands.scan_out_of_fold.scan_out_of_fold"
    monkeypatch.setattr(command, interrupted)
    with pytest.raises(CommandError, match=f"--resume {run.pk}"):
        call_command("scan_out_of_fold", f"--resume={run.pk}")
    run.refresh_from_db()
    assert run.state == State.CANCELLED
    with pytest.raises(CommandError, match="no out-of-fold run 99"):
        call_command("scan_out_of_fold", "--resume=99")
    with pytest.raises(CommandError, match="Name a data set"):
        call_command("scan_out_of_fold")
