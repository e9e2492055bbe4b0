"""Cancelling, resuming and finishing, also twice and at once."""

from __future__ import annotations

import pytest
from django.core.files.storage import default_storage

from mining.exceptions import ArtefactError
from reviewapp import tasks
from reviewapp.actions import finishing
from reviewapp.actions.finishing import finish_scan, part_name, store_part
from reviewapp.actions.scans import cancel_scan, resume_scan
from reviewapp.actions.shards import claim_shard
from reviewapp.exceptions import AlreadyRunning, Refused
from reviewapp.models import Event, ModelVersion, Scan
from reviewapp.scanning import scan_shard
from tests import factories, scanning
from tests.faults import facts, run_all, run_shards, start

# --- cancel and resume ------------------------------------------------------------


def test_a_cancelled_scan_that_is_resumed_continues_at_the_missing_shards(
    net, sent, staff, undisturbed
):
    scan = start(net)
    first, second, *_ = scan.shards.all()
    tasks.run_shard(first.pk)
    slow = claim_shard(shard_id=second.pk, worker="slow")
    cancel_scan(scan=scan, by=staff)
    resume_scan(scan=scan, by=staff)
    assert not scan_shard(slow)  # it never heard of the cancel
    assert facts(run_all(scan)) == undisturbed
    attempts = dict(scan.shards.values_list("number", "attempts"))
    assert attempts == {0: 1, 1: 2, 2: 1, 3: 1}


def test_a_scan_cancelled_while_it_finished_is_resumed_by_finishing(
    net, sent, staff, undisturbed, django_capture_on_commit_callbacks
):
    scan = start(net)
    for shard in scan.shards.all():
        tasks.run_shard(shard.pk)
    cancel_scan(scan=scan, by=staff)
    tasks.finish_scan(scan.pk)
    scan.refresh_from_db()
    assert scan.state == Scan.State.CANCELLED
    sent.clear()
    with django_capture_on_commit_callbacks(execute=True):
        tasks.enqueue_scan(resume_scan(scan=scan, by=staff))
    assert sent == [("finish_scan", scan.pk)]
    assert facts(run_all(scan)) == undisturbed


def test_only_the_waiting_shards_of_a_resumed_scan_are_sent(
    net, sent, full_disk, staff, django_capture_on_commit_callbacks
):
    scan = run_all(start(net))
    sent.clear()
    with django_capture_on_commit_callbacks(execute=True):
        tasks.enqueue_scan(resume_scan(scan=scan, by=staff))
    assert sent == [("run_shard", scan.shards.get(number=1).pk)]


def test_a_done_scan_is_not_resumed(net, sent, staff):
    scan = run_all(start(net))
    with pytest.raises(Refused, match="is done: there is nothing to resume"):
        resume_scan(scan=scan, by=staff)
    active = start(net)
    with pytest.raises(Refused, match="is queued"):
        resume_scan(scan=active, by=staff)


def test_it_does_not_resume_over_other_samples_or_newer_findings(
    net, sent, staff, full_disk
):
    old = run_all(start(net))
    newer = start(net)
    with pytest.raises(AlreadyRunning, match=f"Scan {newer.pk}"):
        resume_scan(scan=old, by=staff)
    cancel_scan(scan=newer, by=staff)
    full_disk.clear()
    newest = run_all(start(net))
    with pytest.raises(Refused, match=f"Scan {newest.pk} of net is newer and done"):
        resume_scan(scan=old, by=staff)
    newest.delete()
    scanning.register_again(net.registered_model.dataset, staff)
    with pytest.raises(Refused, match="was registered again since"):
        resume_scan(scan=old, by=staff)
    old.refresh_from_db()
    assert old.state == Scan.State.PARTIAL
    assert old.confusion_counts.exists()


def test_an_import_is_not_resumed(net, staff):
    scan = start(net)
    cancel_scan(scan=scan, by=staff)
    Scan.objects.update(trigger=Scan.Trigger.IMPORT)
    scan.refresh_from_db()
    with pytest.raises(Refused, match="import that file again"):
        resume_scan(scan=scan, by=staff)


def test_predictions_cannot_be_scanned_with_nor_by_a_schedule(net, sent):
    ModelVersion.objects.update(format="predictions", checkpoint="")
    net.refresh_from_db()
    with pytest.raises(Refused, match="has no checkpoint to run"):
        start(net)
    schedule = factories.ScheduleFactory(registered_model=net.registered_model)
    tasks.start_scheduled_scan(schedule.pk)
    schedule.refresh_from_db()
    assert "has no checkpoint to run" in schedule.last_message
    assert not Scan.objects.exists()


# --- finishing --------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["missing", "junk"])
def test_a_part_that_was_lost_is_scanned_again(net, sent, undisturbed, damage):
    scan = start(net)
    for shard in scan.shards.all():
        tasks.run_shard(shard.pk)
    name = part_name(scan.shards.get(number=2))
    default_storage.delete(name)
    if damage == "junk":
        with default_storage.open(name, "wb") as file:
            file.write(b"not parquet")
    tasks.finish_scan(scan.pk)
    shard = scan.shards.get(number=2)
    assert (shard.state, shard.failures, shard.correct) == ("queued", 1, 0)
    assert facts(run_all(scan)) == undisturbed


def test_a_part_that_is_lost_again_and_again_is_quarantined(net, sent, monkeypatch):
    scan = start(net)

    def forget(*, shard, outcomes):
        if shard.number != 2:
            store_part(shard=shard, outcomes=outcomes)

    monkeypatch.setattr("reviewapp.scanning.store_part", forget)
    for _ in range(3):
        assert scan.is_active
        run_all(scan)
    scan = run_all(scan)
    assert scan.state == Scan.State.PARTIAL
    assert "missing or damaged in the storage" in scan.message
    assert scan.readable == 12


def test_a_storage_that_fails_at_the_end_is_tried_again_by_the_sweep(
    net, sent, undisturbed, monkeypatch
):
    def full(name, path):
        raise ArtefactError("the disk is full")

    scan = start(net)
    for shard in scan.shards.all():
        tasks.run_shard(shard.pk)
    with monkeypatch.context() as patched:
        patched.setattr(finishing, "store_file", full)
        with pytest.raises(ArtefactError):
            tasks.finish_scan(scan.pk)
    scan.refresh_from_db()
    assert scan.state == Scan.State.FINISHING
    assert scan.message == (
        "the disk is full The end of the scan is tried again by itself."
    )
    sent.clear()
    tasks.recover_lost_work()
    assert sent == [("finish_scan", scan.pk)]
    assert facts(run_all(scan)) == undisturbed
    assert scan.message == ""


def test_all_parts_are_gone_when_the_scan_is_done(
    net, sent, full_disk, staff, django_capture_on_commit_callbacks
):
    scan = run_all(start(net))
    names = [part_name(s) for s in scan.shards.filter(state="done")]
    assert all(default_storage.exists(name) for name in names)  # kept for resuming
    full_disk.clear()
    orphan = part_name(scan.shards.get(number=1))  # of an attempt that was killed
    with default_storage.open(orphan, "wb") as file:
        file.write(b"half")
    with django_capture_on_commit_callbacks(execute=True):
        resume_scan(scan=scan, by=staff)
    scan = run_all(scan)
    left = default_storage.listdir(f"scans/{scan.pk}")[1]
    assert [f"scans/{scan.pk}/{name}" for name in left] == [scan.artefact]


def test_the_parts_go_even_when_the_one_that_finished_was_killed_before(
    net, sent, monkeypatch
):
    scan = start(net)
    with monkeypatch.context() as patched:
        patched.setattr(finishing, "delete_files", lambda names: None)
        run_all(scan)
    assert len(default_storage.listdir(f"scans/{scan.pk}")[1]) == 5
    tasks.finish_scan(scan.pk)
    assert default_storage.listdir(f"scans/{scan.pk}")[1] == ["outcomes.parquet"]


def test_two_that_finish_at_once_write_the_facts_once(
    net, sent, undisturbed, monkeypatch
):
    scan = start(net)
    for shard in scan.shards.all():
        tasks.run_shard(shard.pk)
    store_file = finishing.store_file

    def another_first(name, path):
        monkeypatch.setattr(finishing, "store_file", store_file)
        assert finish_scan(scan=Scan.objects.get(pk=scan.pk)).is_done
        store_file(name, path)

    monkeypatch.setattr(finishing, "store_file", another_first)
    finish_scan(scan=scan)
    assert facts(scan) == undisturbed
    done = Event.objects.filter(action="scan done", object_id=scan.pk)
    assert done.count() == 1


def test_one_that_slept_while_it_finished_a_part_of_the_scan_changes_nothing(
    undisturbed, net, sent, full_disk, staff, monkeypatch
):
    scan = start(net)
    run_shards(scan)
    store_file = finishing.store_file

    def asleep(name, path):
        monkeypatch.setattr(finishing, "store_file", store_file)
        full_disk.clear()
        cancel_scan(scan=Scan.objects.get(pk=scan.pk), by=staff)
        resumed = resume_scan(scan=Scan.objects.get(pk=scan.pk), by=staff)
        tasks.run_shard(resumed.shards.get(state="queued").pk)
        # The other one is finishing it now; so the state is the same as before.
        Scan.objects.filter(pk=scan.pk).update(state=Scan.State.FINISHING)
        store_file(name, path)

    monkeypatch.setattr(finishing, "store_file", asleep)
    finish_scan(scan=Scan.objects.get(pk=scan.pk))
    scan.refresh_from_db()
    assert (scan.state, scan.artefact) == (Scan.State.FINISHING, "")
    assert not scan.confusion_counts.exists()
    assert facts(run_all(scan)) == undisturbed
