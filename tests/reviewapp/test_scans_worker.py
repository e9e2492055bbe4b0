"""A worker's sign of life, its patience with PostgreSQL, and its pictures."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError, connection, transaction
from django_celery_beat.schedulers import DatabaseScheduler

from mining.types import Outcome, SampleRef
from reviewapp import persistence, pulse
from reviewapp.actions.scans import cancel_scan
from reviewapp.actions.schedules import schedule_scan
from reviewapp.actions.shards import claim_shard
from reviewapp.celery import app
from reviewapp.models import Scan, Schedule, Shard
from reviewapp.persistence import outlast
from reviewapp.pulse import Pulse
from reviewapp.scanning import Album
from reviewapp.scheduling import PatientScheduler
from reviewapp.thumbnails import SIZES, ensure_thumbnails, thumbnail_name
from tests import factories
from tests.images import write_image


class Clock:
    """A clock that stands still unless told otherwise."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pulse, "time", clock)
    monkeypatch.setattr(persistence, "time", clock)
    return clock


@pytest.fixture
def shard(version, labels) -> Shard:
    scan = factories.ScanFactory(model_version=version, state="queued", samples=1)
    waiting = factories.ShardFactory(scan=scan)
    claimed = claim_shard(shard_id=waiting.pk, worker="w")
    assert claimed is not None
    return claimed


def measured() -> dict[str, object]:
    return {"device": "cpu", "images": 7}


# --- the pulse --------------------------------------------------------------------


def test_it_reports_progress_and_pace_at_most_once_a_second(
    shard, clock, django_assert_num_queries
):
    heart = Pulse(shard, measured)
    with django_assert_num_queries(0):
        heart.beat(3)
    clock.now += 1
    with django_assert_num_queries(1):
        heart.beat(5)
        heart.beat(6)
    shard.refresh_from_db()
    assert (shard.samples_done, shard.pace) == (5, measured())


def test_it_asks_before_a_batch_at_most_four_times_a_second(
    shard, clock, django_assert_num_queries
):
    heart = Pulse(shard, measured)
    cancel_scan(scan=shard.scan, by=factories.UserFactory())
    with django_assert_num_queries(0):
        assert not heart.should_stop()
    clock.now += 0.25
    with django_assert_num_queries(1):
        assert heart.should_stop()
    clock.now += 10
    with django_assert_num_queries(0):  # it is over
        assert heart.should_stop()


def test_it_stops_when_another_worker_has_the_shard(shard, clock):
    heart = Pulse(shard, measured)
    Shard.objects.update(attempts=2)
    clock.now += 1
    heart.beat(1)
    assert heart.should_stop()
    shard.refresh_from_db()
    assert shard.samples_done == 0


def test_other_threads_hear_of_a_stop_without_a_connection_of_their_own(shard, clock):
    heart = Pulse(shard, measured)
    cancel_scan(scan=shard.scan, by=factories.UserFactory())
    clock.now += 1
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(heart.should_stop).result()
        assert heart.should_stop()
        assert pool.submit(heart.should_stop).result()
        assert pool.submit(lambda: connection.connection).result() is None


def test_a_database_that_is_away_does_not_stop_the_work(shard, clock, monkeypatch):
    def away(**options):
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr(pulse, "beat_shard", away)
    monkeypatch.setattr(pulse, "is_shard_held", away)
    heart = Pulse(shard, measured)
    clock.now += 1
    heart.beat(1)
    clock.now += 1
    assert not heart.should_stop()


def test_the_lease_is_kept_while_a_model_loads(settings, monkeypatch):
    settings.SHARD_LEASE_SECONDS = 0.02
    beats: list[int] = []
    enough = threading.Event()

    def beat(*, shard, samples_done, pace):
        beats.append(threading.get_ident())
        if len(beats) == 1:
            raise OperationalError("away for a moment")
        if len(beats) == 3:
            enough.set()
        return True

    monkeypatch.setattr(pulse, "beat_shard", beat)
    with Pulse(Shard(scan=Scan(pk=1), number=0), measured).kept():
        assert enough.wait(30)
    assert threading.get_ident() not in beats
    ended = len(beats)
    assert not threading.Event().wait(0.1)
    assert len(beats) == ended


def test_what_makes_no_progress_is_given_up(settings, monkeypatch, caplog):
    settings.SHARD_LEASE_SECONDS = 0.02
    settings.SHARD_STALL_SECONDS = 0
    monkeypatch.setattr(pulse, "beat_shard", lambda **options: pytest.fail("a beat"))
    heart = Pulse(Shard(scan=Scan(pk=1), number=0), measured)
    heart._keep(threading.Event())  # returns by itself
    assert "makes no progress" in caplog.text


# --- patience with PostgreSQL -----------------------------------------------------


class Flaky:
    """Fails some times, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise OperationalError("the database system is starting up")
        return "done"


@pytest.mark.django_db(transaction=True)
def test_it_outlasts_a_restart_on_a_new_connection(clock):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    before = connection.connection
    assert outlast(Flaky(5)) == "done"
    assert connection.connection is not before
    assert clock.now < 1000 + 10


@pytest.mark.django_db(transaction=True)
def test_it_gives_up_after_a_minute(clock):
    call = Flaky(10**6)
    with pytest.raises(OperationalError, match="starting up"):
        outlast(call)
    assert 1050 < clock.now <= 1060


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_does_not_try_again(clock):
    call = Flaky(1)
    with pytest.raises(OperationalError), transaction.atomic():
        outlast(call)
    assert call.calls == 1


@pytest.mark.django_db(transaction=True)
def test_a_claim_outlasts_a_connection_that_the_server_ended(version, labels, clock):
    scan = factories.ScanFactory(model_version=version, state="queued", samples=1)
    waiting = factories.ShardFactory(scan=scan)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(end_backend, backend).result()
    shard = outlast(lambda: claim_shard(shard_id=waiting.pk, worker="w"))
    assert (shard.attempts, shard.scan.state) == (1, "queued")
    scan.refresh_from_db()
    assert scan.state == "running"


def end_backend(backend: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])
    connection.close()


@pytest.mark.django_db(transaction=True)  # it closes its connection
def test_the_scheduler_goes_on_with_what_it_knows(net_schedule, monkeypatch):
    def away(self):
        raise OperationalError("the database system is shutting down")

    with monkeypatch.context() as patched:
        patched.setattr(DatabaseScheduler, "all_as_schedule", away)
        with pytest.raises(OperationalError):
            PatientScheduler(app=app, lazy=True).schedule  # noqa: B018
    scheduler = PatientScheduler(app=app, lazy=True)
    known = scheduler.schedule
    assert any(entry.task.endswith("start_scheduled_scan") for entry in known.values())
    monkeypatch.setattr(DatabaseScheduler, "all_as_schedule", away)
    scheduler._last_full_sync -= timedelta(minutes=6)
    assert scheduler.schedule == known


@pytest.fixture
def net_schedule(registered_model) -> Schedule:
    return schedule_scan(
        dataset=registered_model.dataset,
        model=registered_model,
        cron="* * * * *",
        by=None,
    )


# --- pictures ---------------------------------------------------------------------


def test_lanes_may_make_the_same_thumbnails_at_once(tmp_path):
    data = write_image(tmp_path / "a.png", 100).read_bytes()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ensure_thumbnails("ab" * 32, data), range(32)))
    assert all(made)
    folder = str(Path(thumbnail_name("ab" * 32, "grid")).parent)
    wanted = {Path(thumbnail_name("ab" * 32, size)).name for size in SIZES}
    assert set(default_storage.listdir(folder)[1]) == wanted


def test_a_sample_without_a_prediction_is_shown_by_the_bytes_that_are_there(tmp_path):
    data = write_image(tmp_path / "a.png", 100).read_bytes()
    registered = SampleRef(id=7, key="a.png", url="a.png", label=0, digest="0" * 64)
    album = Album()
    album.keep(Outcome.unreadable(registered, "the file changed"), data)
    digest = hashlib.sha256(data).hexdigest()
    assert album.unpredicted == {7: digest}
    assert default_storage.exists(thumbnail_name(digest, "grid"))
    assert not default_storage.exists(thumbnail_name("0" * 64, "grid"))


def test_bytes_that_are_no_picture_have_none():
    album = Album()
    sample = SampleRef(id=7, key="a.png", url="a.png", label=0, digest="0" * 64)
    album.keep(Outcome.unreadable(sample, "it is empty"), b"no picture")
    assert album.unpredicted == {}
