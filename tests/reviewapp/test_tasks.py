"""Tasks: what they enqueue is read from the real broker."""

from __future__ import annotations

from datetime import timedelta
from queue import Empty

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from kombu.exceptions import OperationalError

from mining.exceptions import ArtefactError
from reviewapp import tasks
from reviewapp.actions.datasets import register_dataset
from reviewapp.actions.exports import request_export
from reviewapp.actions.finishing import part_name
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.scans import cancel_scan, start_scan
from reviewapp.actions.schedules import schedule_scan, unschedule
from reviewapp.actions.shards import claim_shard
from reviewapp.celery import app
from reviewapp.exceptions import Refused, plain_message
from reviewapp.models import Export, Finding, Registration, Scan, Shard, Verdict
from reviewapp.scanning import _warm
from tests import factories, scanning
from tests.images import write_animals, write_brightness_model
from tests.reviewing import decide


class Queues:
    """The test process's own queues on the broker."""

    def drain(self) -> list[tuple[str, list]]:
        """Return (task, arguments) of everything waiting, and empty the queues."""
        found = []
        with app.connection_for_read() as connection:
            for name in ("scan", "default"):
                queue = connection.SimpleQueue(name)
                try:
                    while True:
                        message = queue.get(block=False)
                        message.ack()
                        task = message.headers["task"].rpartition(".")[2]
                        found.append((task, message.payload[0]))
                except Empty:
                    pass
                finally:
                    queue.close()
        return found


@pytest.fixture
def queues():
    queues = Queues()
    queues.drain()
    yield queues
    queues.drain()


@pytest.fixture
def net(data_root, model_root, db):
    write_animals(data_root / "animals", wrong={("cat", "dog"): 2})
    staff = factories.UserFactory(username="staff", is_staff=True)
    dataset = scanning.register(data_root / "animals", staff)
    return scanning.add_version(dataset, write_brightness_model(model_root / "1.onnx"))


def start(net) -> Scan:
    return start_scan(
        dataset=net.registered_model.dataset,
        version=net,
        trigger=Scan.Trigger.API,
        by=None,
    )


def test_shards_go_to_the_scan_queue_after_the_commit(
    net, queues, django_capture_on_commit_callbacks
):
    scan = start(net)
    with django_capture_on_commit_callbacks(execute=False) as callbacks:
        tasks.enqueue_scan(scan)
    assert queues.drain() == []
    for callback in callbacks:
        callback()
    assert queues.drain() == [("run_shard", [scan.shards.get().pk])]


def test_the_last_shard_finishes_the_scan(net, queues):
    scan = start(net)
    tasks.run_shard(scan.shards.get().pk)
    assert queues.drain() == [("finish_scan", [scan.pk])]
    tasks.finish_scan(scan.pk)
    scan.refresh_from_db()
    assert (scan.state, scan.errors) == (Scan.State.DONE, 2)


def test_running_everything_twice_changes_nothing(net, queues):
    scan = start(net)
    shard = scan.shards.get().pk
    for _ in range(2):
        tasks.run_shard(shard)
        tasks.finish_scan(scan.pk)
    assert Finding.objects.misclassified().count() == 2
    assert scan.confusion_counts.count() == 4
    assert scan.sightings.count() == Finding.objects.count()


def test_a_checkpoint_that_cannot_be_used_fails_the_scan_at_once(
    net, queues, model_root
):
    _warm.cache_clear()
    (model_root / "1.onnx").write_bytes(b"another file")
    scan = start(net)
    tasks.run_shard(scan.shards.get().pk)
    assert queues.drain() == []
    scan.refresh_from_db()
    assert scan.state == Scan.State.FAILED
    assert "is not the file that was registered" in scan.message


def test_a_storage_that_fails_is_tried_again_then_given_up(net, queues, monkeypatch):
    def full(**kwargs):
        raise ArtefactError("the disk is full")

    monkeypatch.setattr("reviewapp.scanning.store_part", full)
    scan = start(net)
    shard = scan.shards.get()
    states = []
    for _ in range(3):
        tasks.run_shard(shard.pk)
        shard.refresh_from_db()
        states.append(shard.state)
    assert states == ["queued", "queued", "quarantined"]
    tasks.finish_scan(scan.pk)
    scan.refresh_from_db()
    assert scan.state == Scan.State.FAILED
    assert "given up after 3 attempts: the disk is full" in scan.message
    assert not Finding.objects.exists()
    assert not default_storage.exists(part_name(shard))


def test_a_shard_whose_worker_died_is_enqueued_again(net, queues):
    scan = start(net)
    shard = claim_shard(shard_id=scan.shards.get().pk, worker="gone")
    tasks.recover_lost_work()
    assert queues.drain() == []
    Shard.objects.update(heartbeat_at=timezone.now() - timedelta(hours=1))
    tasks.recover_lost_work()
    assert queues.drain() == [("run_shard", [shard.pk])]
    tasks.run_shard(shard.pk)
    tasks.finish_scan(scan.pk)
    scan.refresh_from_db()
    assert scan.state == Scan.State.DONE


def test_a_scan_whose_finishing_was_lost_is_finished(net, queues):
    scan = start(net)
    tasks.run_shard(scan.shards.get().pk)
    queues.drain()
    tasks.recover_lost_work()
    assert queues.drain() == [("finish_scan", [scan.pk])]


def test_a_scan_that_was_never_enqueued_is_enqueued(net, queues):
    scan = start(net)
    Scan.objects.update(created_at=timezone.now() - timedelta(hours=1))
    tasks.recover_lost_work()
    assert queues.drain() == [("run_shard", [scan.shards.get().pk])]


def test_a_registration_runs_once(data_root, queues, db):
    write_animals(data_root / "a")
    staff = factories.UserFactory(is_staff=True)
    registration = register_dataset(name="A", root=str(data_root / "a"), by=staff)
    tasks.run_registration(registration.pk)
    tasks.run_registration(registration.pk)
    registration.refresh_from_db()
    assert (registration.state, registration.added) == (Registration.State.DONE, 12)


def test_a_lost_registration_and_export_are_enqueued_again(world, rita, alice, queues):
    long_ago = timezone.now() - timedelta(hours=1)
    registration = factories.RegistrationFactory(
        dataset=world.dataset, state="running", heartbeat_at=long_ago
    )
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM, version=0)
    fix_set = freeze_fix_set(
        dataset=world.dataset, name="x", findings=Finding.objects.all(), by=alice
    )
    export = request_export(fix_set=fix_set, format="csv", by=alice)
    Export.objects.update(state="running", heartbeat_at=long_ago, created_at=long_ago)
    Registration.objects.update(created_at=long_ago)
    tasks.recover_lost_work()
    assert queues.drain() == [
        ("run_registration", [registration.pk]),
        ("run_export", [export.pk]),
    ]
    tasks.run_export(export.pk)
    export.refresh_from_db()
    assert export.state == Export.State.DONE


def test_a_schedule_starts_scans_but_not_two_at_once(
    net, queues, django_capture_on_commit_callbacks
):
    model = net.registered_model
    schedule = schedule_scan(
        dataset=model.dataset, model=model, cron="0 2 * * *", by=None, split="test"
    )
    with django_capture_on_commit_callbacks(execute=True):
        tasks.start_scheduled_scan(schedule.pk)
    assert [name for name, _ in queues.drain()] == ["run_shard"]
    tasks.start_scheduled_scan(schedule.pk)
    schedule.refresh_from_db()
    assert Scan.objects.count() == 1
    assert "not started" in schedule.last_message
    assert "still queued" in schedule.last_message


def test_a_schedule_is_an_entry_of_the_scheduler(net):
    model = net.registered_model
    options = {"dataset": model.dataset, "model": model, "by": None}
    schedule_scan(**options, cron="0 2 * * *")
    schedule = schedule_scan(**options, cron=" 30 3  * * 1-5 ")
    task = PeriodicTask.objects.get(task="reviewapp.tasks.start_scheduled_scan")
    assert task.crontab.schedule.minute == {30}
    assert task.crontab.schedule.day_of_week == {1, 2, 3, 4, 5}
    assert task.enabled
    unschedule(schedule=schedule, by=None)
    assert not PeriodicTask.objects.filter(pk=task.pk).exists()


@pytest.mark.parametrize(
    "cron", ["", "nightly", "0 2 * *", "99 2 * * *", "0 2 * * * *"]
)
def test_a_cron_line_that_cannot_be_read_is_refused(net, cron):
    model = net.registered_model
    with pytest.raises(Refused, match="cron"):
        schedule_scan(dataset=model.dataset, model=model, cron=cron, by=None)
    assert not PeriodicTask.objects.filter(task__endswith="scheduled_scan").exists()


def test_a_lost_part_is_sent_to_a_worker_again(
    net, queues, django_capture_on_commit_callbacks
):
    scan = start(net)
    shard = scan.shards.get()
    tasks.run_shard(shard.pk)
    shard.refresh_from_db()
    default_storage.delete(part_name(shard))
    queues.drain()
    with django_capture_on_commit_callbacks(execute=True):
        tasks.finish_scan(scan.pk)
    assert queues.drain() == [("run_shard", [shard.pk])]


def test_the_broker_says_how_many_messages_wait(net, queues):
    assert tasks._messages("scan") == 0
    tasks._send(tasks.run_shard, [1, 2, 3])
    assert tasks._messages("scan") == 3


def test_a_broker_that_is_away_is_no_reason_to_fail(net, settings, monkeypatch):
    class Away:
        def __init__(self, **options):
            pass

        def __enter__(self):
            raise OperationalError("connection refused")

        def __exit__(self, *error):
            pass

    start(net)
    Scan.objects.update(created_at=timezone.now() - timedelta(hours=1))
    monkeypatch.setattr(app, "connection_for_read", Away)
    monkeypatch.setattr(app, "connection_for_write", Away)
    assert tasks._messages("scan") is None
    tasks._send(tasks.run_shard, [1])
    tasks.recover_lost_work()


def test_messages_stay_away_for_longer_than_a_shard_may_take(settings):
    hidden = settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]
    assert hidden > settings.CELERY_TASK_TIME_LIMIT
    assert hidden > settings.SHARD_STALL_SECONDS + settings.SHARD_LEASE_SECONDS
    assert settings.SHARD_STALL_SECONDS > settings.SHARD_LEASE_SECONDS


def test_a_scan_that_finishes_can_be_cancelled(net, queues, monkeypatch):
    scan = start(net)
    tasks.run_shard(scan.shards.get().pk)
    staff = factories.UserFactory()

    def cancelled_meanwhile(name, path):
        cancel_scan(scan=Scan.objects.get(), by=staff)

    monkeypatch.setattr("reviewapp.actions.finishing.store_file", cancelled_meanwhile)
    tasks.finish_scan(scan.pk)
    scan.refresh_from_db()
    assert scan.state == Scan.State.CANCELLED
    assert not scan.confusion_counts.exists()


def test_an_unforeseen_error_ends_the_registration(data_root, monkeypatch, db):
    def broken(*arguments):
        raise RecursionError("too deep \0")

    write_animals(data_root / "a")
    monkeypatch.setattr("reviewapp.actions.datasets.open_source", broken)
    staff = factories.UserFactory(is_staff=True)
    registration = register_dataset(name="A", root=str(data_root / "a"), by=staff)
    tasks.run_registration(registration.pk)
    registration.refresh_from_db()
    assert registration.state == Registration.State.FAILED
    assert registration.message.startswith("too deep \\x00")


def test_every_message_can_be_stored():
    assert plain_message(ValueError("a \udcff \0")) == "a \\udcff \\x00"
    assert plain_message(ValueError()) == "ValueError"


def test_an_unforeseen_error_is_a_failed_attempt(net, queues, monkeypatch):
    def broken(shard):
        raise TypeError("unforeseen")

    monkeypatch.setattr("reviewapp.tasks.scan_shard", broken)
    scan = start(net)
    tasks.run_shard(scan.shards.get().pk)
    shard = scan.shards.get()
    assert (shard.state, shard.message) == ("queued", "unforeseen")


@pytest.mark.parametrize("cron", ["0 2 30 2 *", "0 2 31 4 *"])
def test_a_day_that_never_comes_is_refused(net, cron):
    model = net.registered_model
    with pytest.raises(Refused, match="cron"):
        schedule_scan(dataset=model.dataset, model=model, cron=cron, by=None)


def test_day_seven_is_sunday(net):
    model = net.registered_model
    schedule = schedule_scan(
        dataset=model.dataset, model=model, cron="0 2 * * 7", by=None
    )
    assert schedule.periodic_task.crontab.schedule.day_of_week == {0}
    assert schedule.next_run().isoweekday() == 7


def test_two_entries_with_the_same_times_do_no_harm(net):
    model = net.registered_model
    times = {"minute": "0", "hour": "2", "timezone": "UTC"}
    for _ in range(2):
        CrontabSchedule.objects.create(**times)
    schedule_scan(dataset=model.dataset, model=model, cron="0 2 * * *", by=None)
