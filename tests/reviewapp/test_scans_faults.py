"""What goes wrong in a scan costs time, and never a wrong number."""

from __future__ import annotations

from threading import Thread

import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction

from mining.exceptions import BadCheckpoint
from reviewapp import tasks
from reviewapp.actions.finishing import part_name, store_part
from reviewapp.actions.scans import resume_scan
from reviewapp.actions.shards import (
    beat_shard,
    claim_shard,
    fail_shard,
    forgotten_shards,
    requeue_silent_shards,
)
from reviewapp.models import Confusion, Event, Finding, Scan, Shard
from reviewapp.scanning import scan_shard
from tests import factories, scanning
from tests.faults import facts, long_ago, run_all, start
from tests.images import LEVELS, write_brightness_model

# --- errors: quarantine, partial, resume ------------------------------------------


def test_a_shard_that_fails_three_times_leaves_a_partial_scan(net, sent, full_disk):
    scan = run_all(start(net))
    shard = scan.shards.get(state=Shard.State.QUARANTINED)
    assert (shard.number, shard.failures, shard.losses, shard.attempts) == (1, 3, 0, 3)
    assert scan.state == Scan.State.PARTIAL
    assert scan.message == (
        "1 of 4 parts could not be scanned: 5 of 17 samples are not covered. Part 2 was "
        "given up after 3 attempts: the disk is full What the other parts found is kept "
        "and counted; the history does not count this scan. Mend the cause and resume "
        "the scan."
    )
    assert scan.readable == 12
    assert sum(row.count for row in scan.confusion_counts.all()) == 12
    assert scan.accuracy is None
    assert default_storage.exists(scan.artefact)
    assert not Confusion.objects.exists()


def test_a_partial_scan_leaves_presence_and_ledger_as_they_were(
    net, sent, full_disk, model_root
):
    full_disk.clear()
    run_all(start(net))
    before = list(Confusion.objects.order_by("pk").values())
    presence = dict(Finding.objects.values_list("pk", "presence"))
    levels = {**LEVELS, "cat": 80, "dog": 255}  # a better one, that never says dog
    dataset = net.registered_model.dataset
    better = scanning.add_version(
        dataset, write_brightness_model(model_root / "2.onnx", levels)
    )
    full_disk.add(1)
    assert run_all(start(better)).state == Scan.State.PARTIAL
    assert list(Confusion.objects.order_by("pk").values()) == before
    now = dict(Finding.objects.values_list("pk", "presence"))
    assert {pk: now[pk] for pk in presence} == presence
    # And it blocks nothing: the older version is not scanned for the record only.
    assert not start(net).for_record


def test_a_partial_scan_that_is_resumed_ends_as_if_nothing_had_been(
    undisturbed, net, sent, full_disk, staff, django_capture_on_commit_callbacks
):
    scan = run_all(start(net))
    partial = scan.artefact
    full_disk.clear()
    done = {s.pk: s.attempts for s in scan.shards.filter(state="done")}
    with django_capture_on_commit_callbacks(execute=True):
        resume_scan(scan=scan, by=staff)
    assert (scan.state, scan.message, scan.errors) == (Scan.State.RUNNING, "", None)
    assert (scan.finished_at, scan.artefact) == (None, "")
    assert not scan.confusion_counts.exists()
    assert not default_storage.exists(partial)
    waiting = scan.shards.get(state=Shard.State.QUEUED)
    assert (waiting.number, waiting.failures, waiting.message) == (1, 0, "")
    scan = run_all(scan)
    assert scan.state == Scan.State.DONE
    assert facts(scan) == undisturbed
    assert {s.pk: s.attempts for s in scan.shards.filter(pk__in=done)} == done
    assert Event.objects.filter(action="scan resumed", actor=staff).count() == 1


def test_a_scan_without_a_single_part_failed_and_can_be_resumed(
    undisturbed, net, sent, full_disk, staff
):
    full_disk.update(range(4))
    scan = run_all(start(net))
    assert scan.state == Scan.State.FAILED
    assert "4 of 4 parts could not be scanned" in scan.message
    assert "The page of the scan names 1 more." in scan.message
    assert not Finding.objects.filter(registered_model=net.registered_model_id).exists()
    full_disk.clear()
    assert facts(run_all(resume_scan(scan=scan, by=staff))) == undisturbed


def test_an_error_that_every_shard_would_meet_fails_the_scan_at_once(
    net, sent, monkeypatch
):
    def bad(version, settings):
        raise BadCheckpoint("1.onnx is not the file that was registered any more.")

    scan = start(net)
    first, second, *_ = scan.shards.all()
    other = claim_shard(shard_id=second.pk, worker="other")
    monkeypatch.setattr("reviewapp.scanning._load", bad)
    tasks.run_shard(first.pk)
    scan.refresh_from_db()
    first.refresh_from_db()
    assert (scan.state, first.state) == ("failed", "quarantined")
    assert "is not the file that was registered" in scan.message
    assert sent == []
    assert not beat_shard(shard=other, samples_done=1)
    assert claim_shard(shard_id=scan.shards.last().pk, worker="w") is None


@pytest.mark.parametrize(
    ("cause", "state"),
    [(ConnectionError("bucket away"), "running"), (FileNotFoundError("x"), "failed")],
)
def test_a_checkpoint_that_cannot_be_reached_now_is_tried_again(
    net, sent, monkeypatch, cause, state
):
    def unseen(version, settings):
        raise BadCheckpoint("the worker cannot see it") from cause

    monkeypatch.setattr("reviewapp.scanning._load", unseen)
    scan = start(net)
    tasks.run_shard(scan.shards.first().pk)
    scan.refresh_from_db()
    assert scan.state == state
    assert bool(sent) == (state == "running")


# --- losses -----------------------------------------------------------------------


def test_a_lost_worker_is_no_error_of_the_shard(net, sent, settings):
    settings.SHARD_MAX_LOSSES = 4
    scan = start(net)
    pk = scan.shards.first().pk
    for n in range(1, 5):
        claim_shard(shard_id=pk, worker=f"w{n}")
        Shard.objects.filter(pk=pk).update(heartbeat_at=long_ago())
        requeued = requeue_silent_shards()
        shard = scan.shards.get(pk=pk)
        assert (shard.losses, shard.failures) == (n, 0)
        assert requeued == ([pk] if n < 4 else [])
    assert shard.state == Shard.State.QUARANTINED
    assert shard.message.startswith("w4 was not heard of after ")


def test_a_worker_that_speaks_up_during_the_sweep_keeps_its_shard(net, monkeypatch):
    scan = start(net)
    shard = claim_shard(shard_id=scan.shards.first().pk, worker="slow")
    Shard.objects.filter(pk=shard.pk).update(heartbeat_at=long_ago())
    after = "reviewapp.actions.shards._after"
    from reviewapp.actions.shards import _after

    def beat_meanwhile(*arguments, **options):
        assert beat_shard(shard=shard, samples_done=3)
        return _after(*arguments, **options)

    monkeypatch.setattr(after, beat_meanwhile)
    assert requeue_silent_shards() == []
    shard.refresh_from_db()
    assert (shard.state, shard.losses) == ("running", 0)


def test_a_worker_that_slept_past_its_lease_writes_nothing(
    net, sent, undisturbed, monkeypatch
):
    scan = start(net)
    pk = scan.shards.first().pk
    sleeper = claim_shard(shard_id=pk, worker="sleeper")

    def sleep_then_store(*, shard, outcomes):
        if shard.worker == "sleeper":  # frozen here: another one does the shard
            Shard.objects.filter(pk=pk).update(heartbeat_at=long_ago())
            assert requeue_silent_shards() == [pk]
            tasks.run_shard(pk)
        store_part(shard=shard, outcomes=outcomes)

    monkeypatch.setattr("reviewapp.scanning.store_part", sleep_then_store)
    assert not scan_shard(sleeper)
    shard = scan.shards.get(pk=pk)
    assert (shard.state, shard.attempts, shard.losses) == ("done", 2, 1)
    assert not default_storage.exists(part_name(sleeper))
    assert default_storage.exists(part_name(shard))
    assert facts(run_all(scan)) == undisturbed


def test_two_workers_with_one_message_make_one_attempt(net, sent, undisturbed):
    scan = start(net)
    for shard in scan.shards.all():
        tasks.run_shard(shard.pk)
        tasks.run_shard(shard.pk)
    assert set(scan.shards.values_list("attempts", flat=True)) == {1}
    assert facts(run_all(scan)) == undisturbed


@pytest.mark.django_db(transaction=True)
def test_two_claims_at_the_same_moment_give_one_attempt(version, labels):
    scan = factories.ScanFactory(
        model_version=version, state="queued", samples=1, settings={}
    )
    shard = factories.ShardFactory(scan=scan)
    late: list[object] = []

    def claim_late() -> None:
        late.append(claim_shard(shard_id=shard.pk, worker="late"))
        connection.close()

    with transaction.atomic():
        assert claim_shard(shard_id=shard.pk, worker="early").attempts == 1
        thread = Thread(target=claim_late)
        thread.start()
        wait_for_a_lock()
    thread.join()
    assert late == [None]
    shard.refresh_from_db()
    assert (shard.worker, shard.attempts) == ("early", 1)


def wait_for_a_lock() -> None:
    with connection.cursor() as cursor:
        for _ in range(10_000):
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted "
                "AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            if cursor.fetchone()[0]:
                return
            cursor.execute("SELECT pg_sleep(0.001)")
    pytest.fail("nobody waits for the row")


# --- lost messages ----------------------------------------------------------------


def test_shards_are_sent_again_only_when_messages_are_missing(net):
    scan = start(net)
    pks = list(scan.shards.order_by("pk").values_list("pk", flat=True))
    assert forgotten_shards(messages=0) == []  # on their way
    Scan.objects.update(created_at=long_ago())
    assert forgotten_shards(messages=4) == []
    assert forgotten_shards(messages=None) == []
    assert forgotten_shards(messages=3) == pks


def test_a_long_shard_does_not_hide_that_the_others_messages_are_lost(net):
    scan = start(net)
    Scan.objects.update(created_at=long_ago())
    busy, *others = scan.shards.order_by("pk").values_list("pk", flat=True)
    claim_shard(shard_id=busy, worker="w")
    assert forgotten_shards(messages=0) == others


def test_a_shard_that_waits_for_its_next_attempt_is_left_alone(net):
    scan = start(net)
    Scan.objects.update(created_at=long_ago())
    first, *others = scan.shards.order_by("pk").values_list("pk", flat=True)
    shard = claim_shard(shard_id=first, worker="w")
    fail_shard(shard=shard, message="no", final=False)
    assert forgotten_shards(messages=0) == others


def test_the_shards_of_an_import_are_not_sent_to_workers(net):
    scan = start(net)
    Scan.objects.update(created_at=long_ago(), trigger=Scan.Trigger.IMPORT)
    claim_shard(shard_id=scan.shards.first().pk, worker="the import")
    Shard.objects.filter(state="running").update(heartbeat_at=long_ago())
    assert requeue_silent_shards() == []
    assert forgotten_shards(messages=0) == []
