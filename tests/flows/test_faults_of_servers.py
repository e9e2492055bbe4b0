"""Broker and database go away in the middle; the scan is that of an undisturbed one."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from django.test import override_settings

from reviewapp.models import Scan, Shard
from reviewapp.services_programs import Postgres
from tests.flows.lossy_proxy import LossyProxy
from tests.flows.plant import Plant, Worker, check_undisturbed
from tests.flows.saboteur import order
from tests.flows.worker import wait_for

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(300)]

N_SHARDS = 20


def in_the_middle(plant: Plant) -> tuple[Scan, Worker]:
    """Return a scan with a third of its shards done, and the worker that is at it."""
    plant.reference()
    (worker,) = plant.man(1)
    scan = plant.start()
    plant.send(scan)
    plant.await_that(scan, lambda: plant.shards_done(scan) >= N_SHARDS // 3)
    return scan, worker


def check_it_ends_well(plant: Plant, scan: Scan, worker: Worker) -> None:
    """Check that the worker lived on, and that the scan ended as if nothing had been."""
    plant.await_end(scan, workers=None)
    check_undisturbed(plant, scan)
    assert worker.is_alive
    assert set(scan.shards.values_list("failures", flat=True)) == {0}
    plant.check_it_works_on()


def test_a_broker_that_forgets_everything(plant):
    with plant.scheduler() as scheduler:  # the real one finds what was lost
        scan, worker = in_the_middle(plant)
        with redis.Redis.from_url(plant.endpoints.redis_url) as broker:
            assert broker.llen("scan") > 0
            broker.flushall()
        assert plant.shards_done(scan) < N_SHARDS
        check_it_ends_well(plant, scan, worker)
        assert scheduler.is_alive


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_broker_that_restarts(plant, number):
    scan, worker = in_the_middle(plant)
    plant.stop_valkey(number)
    assert plant.shards_done(scan) < N_SHARDS
    plant.start_servers()
    check_it_ends_well(plant, scan, worker)


def test_a_broker_that_is_away_when_a_shard_is_done(plant):
    plant.reference()
    (worker,) = plant.man(1)
    order(plant.orders, "freeze", "save", "part-000005")
    scan = plant.start()
    plant.send(scan)
    plant.await_that(scan, lambda: worker.is_frozen)
    plant.stop_valkey(signal.SIGKILL)  # leaves its socket
    worker.thaw()
    wait_for(lambda: scan.shards.get(number=5).state == Shard.State.DONE)
    wait_for(lambda: "Connection refused" in worker.said)  # it cannot acknowledge
    plant.start_servers()
    check_it_ends_well(plant, scan, worker)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="fast"),
        pytest.param(signal.SIGQUIT, id="immediate"),
    ],
)
def test_a_database_that_restarts(plant, number):
    with override_settings(SHARD_LEASE_SECONDS=30):  # no claim is taken for lost
        scan, worker = in_the_middle(plant)
        assert plant.shards_done(scan) < N_SHARDS
        plant.stop_postgres(number)
        plant.start_servers()
        check_it_ends_well(plant, scan, worker)
    # The worker waited for the database with what it had computed.
    assert set(scan.shards.values_list("attempts", flat=True)) == {1}


@pytest.fixture
def proxy(plant):
    # Not under tmp_path: a socket's path is at most 103 bytes long.
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(plant.var.resolve()).socket_path
        proxy = LossyProxy(Path(folder), server, losses=3)
        yield Path(folder), proxy
        plant.dismiss()
        proxy.close()


def test_a_database_that_dies_before_it_says_that_it_has_committed(plant, proxy):
    plant.reference()
    folder, lossy = proxy
    plant.dismiss()
    url = f"postgresql://postgres@/hardmine?host={quote(str(folder), safe='')}"
    worker = plant.hire(DATABASE_URL=url)
    scan = plant.start()
    plant.send(scan)
    plant.await_end(scan, workers=None)
    assert max(lossy.losses_left.values()) <= 0
    check_undisturbed(plant, scan)
    assert worker.is_alive
    # A commit that was not answered is taken for what it is, and not repaired: a claim
    # is the worker's at once, and no lease is waited for.
    assert set(scan.shards.values_list("attempts", flat=True)) == {1}
    assert set(scan.shards.values_list("failures", flat=True)) == {0}
