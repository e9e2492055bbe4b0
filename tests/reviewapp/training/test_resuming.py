"""Runs that were stopped or lost end in the same weights."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import FileSystemStorage
from django.utils import timezone

from reviewapp import tasks
from reviewapp.actions.runs import (
    beat_run,
    claim_run,
    forget_old_states,
    forgotten_runs,
    requeue_silent_runs,
)
from reviewapp.actions.training import cancel_training, resume_training
from reviewapp.exceptions import Refused
from reviewapp.models import Event, Label, Sample, TrainingRun
from reviewapp.retraining import train_run
from reviewapp.storage import store_bytes
from tests.faults import long_ago
from tests.schooling import claim, start, stored, trained

State = TrainingRun.State


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
        assert requeue_silent_runs(kind=TrainingRun) == [run.pk]
        trained(TrainingRun.objects.get(pk=run.pk))

    assert not train_run(sleeper, watch=overtake)
    run.refresh_from_db()
    assert (run.state, run.attempts, run.losses) == (State.DONE, 2, 0)
    assert run.version == reference
    assert [epoch["epoch"] for epoch in run.epochs] == [1, 2, 3]
    assert stored(run) == []


def test_a_run_is_claimed_once(version, recipe):
    run, at = start(version, recipe), timezone.now()
    first = claim_run(kind=TrainingRun, run_id=run.pk, worker="a", at=at)
    assert first.attempts == 1
    assert claim_run(kind=TrainingRun, run_id=run.pk, worker="b", at=at) is None
    again = claim_run(
        kind=TrainingRun, run_id=run.pk, worker="a", at=at
    )  # its answer was lost
    assert again.attempts == 1
    assert TrainingRun.objects.held(first).exists()


def test_two_runs_of_one_parent_can_be_under_way(version, recipe):
    assert claim(start(version, recipe)) != claim(start(version, recipe))


def test_a_silent_run_is_given_back_until_it_was_lost_too_often(
    version, recipe, settings
):
    settings.SHARD_MAX_LOSSES = 2
    run = start(version, recipe)
    assert requeue_silent_runs(kind=TrainingRun) == []
    for losses, state in ((1, State.QUEUED), (2, State.FAILED)):
        lost = claim(run)
        TrainingRun.objects.update(heartbeat_at=long_ago())
        assert requeue_silent_runs(kind=TrainingRun) == (
            [run.pk] if losses == 1 else []
        )
        run.refresh_from_db()
        assert (run.losses, run.state) == (losses, state)
        assert "w was not heard of after" in run.message
        assert not beat_run(run=lost, progress={})
    assert "it can be resumed" in run.message
    assert resume_training(run=run, by=None).losses == 0


def test_waiting_runs_are_sent_again_when_messages_are_missing(version, recipe):
    run = start(version, recipe)
    assert forgotten_runs(kind=TrainingRun, messages=0) == []
    TrainingRun.objects.update(requested_at=timezone.now() - timedelta(hours=1))
    assert forgotten_runs(kind=TrainingRun, messages=0) == [run.pk]
    assert forgotten_runs(kind=TrainingRun, messages=1) == []
    assert forgotten_runs(kind=TrainingRun, messages=None) == []


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


def test_only_what_ended_is_resumed_and_only_what_goes_on_is_cancelled(version, recipe):
    run = start(version, recipe)
    with pytest.raises(Refused, match=rf"Training run {run.pk} is queued: nothing"):
        resume_training(run=run, by=None)
    cancel_training(run=run, by=None)
    with pytest.raises(Refused, match=rf"Training run {run.pk} is cancelled already"):
        cancel_training(run=run, by=None)
    assert claim_run(kind=TrainingRun, run_id=run.pk, worker="w") is None


def test_a_control_is_stopped_and_resumed_with_its_run(version, recipe, staff):
    run = start(version, recipe, with_control=True)
    control = claim(run.controls.get())
    cancel_training(run=run, by=staff)
    assert not beat_run(run=control, progress={})
    assert run.message.endswith(
        f"Its control, {control}, is stopped and resumed with it."
    )
    control.refresh_from_db()
    assert control.state == State.CANCELLED
    assert control.message.endswith(f"It was stopped with {run}.")
    assert Event.objects.filter(action="training cancelled").count() == 2
    assert resume_training(run=run, by=staff).state == State.QUEUED
    control.refresh_from_db()
    assert (control.state, control.message) == (State.QUEUED, "")


def test_a_control_that_was_stopped_alone_is_not_resumed_with_its_run(
    version, recipe, staff
):
    run = start(version, recipe, with_control=True)
    control = cancel_training(run=run.controls.get(), by=staff)
    cancel_training(run=run, by=staff)
    assert "control" not in run.message
    resume_training(run=run, by=staff)
    control.refresh_from_db()
    assert control.state == State.CANCELLED


# --- what is left over ----------------------------------------------------------------


@pytest.fixture
def left(version, recipe) -> dict[str, TrainingRun]:
    """A run in each state that ended, or was queued, long ago; and one of yesterday."""
    made = {}
    for state in ("cancelled", "failed", "queued", "running", "yesterday"):
        run = made[state] = start(version, recipe)
        run.state = State.CANCELLED if state == "yesterday" else state
        days = 1 if state == "yesterday" else 31
        run.finished_at = timezone.now() - timedelta(days=days)
        run.heartbeat_at, run.message = timezone.now(), "It ended."
        run.save()
        store_bytes(f"{run.folder}/1-1.safetensors", b"a state")
    return made


def test_what_old_runs_could_go_on_from_is_removed_some_at_a_time(left, monkeypatch):
    monkeypatch.setattr("reviewapp.actions.runs.AT_ONCE", 1)
    forget_old_states(kind=TrainingRun)
    assert [state for state, run in left.items() if not stored(run)] == ["cancelled"]
    tasks.recover_lost_work()
    forget_old_states(kind=TrainingRun)
    gone = {state for state, run in left.items() if not stored(run)}
    assert gone == {"cancelled", "failed"}
    run = left["failed"]
    run.refresh_from_db()
    assert run.message == (
        "It ended. After 30 days nothing is left that it could go on from: resumed, it "
        "begins anew."
    )
    assert trained(resume_training(run=run, by=None)).version


def test_a_storage_that_does_not_answer_is_asked_again(left, monkeypatch):
    def away(self, path):
        raise OSError("the bucket is away")

    with monkeypatch.context() as patched:
        patched.setattr(FileSystemStorage, "listdir", away)
        forget_old_states(kind=TrainingRun)
    assert not TrainingRun.objects.exclude(message="It ended.").exists()
    forget_old_states(kind=TrainingRun)
    assert stored(left["cancelled"]) == []
