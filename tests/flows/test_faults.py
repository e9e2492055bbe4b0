"""Workers die, freeze and meet each other; the scan is that of an undisturbed one."""

from __future__ import annotations

import os
import random
import time

import pytest
from django.db.models import Sum

from reviewapp import tasks
from reviewapp.actions.scans import cancel_scan, resume_scan
from reviewapp.celery import app
from reviewapp.models import Scan, Shard
from tests.flows.facts import facts, files
from tests.flows.plant import SLOW, Plant, Worker, check_undisturbed
from tests.flows.saboteur import order
from tests.flows.worker import wait_for

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]

KILLS = int(os.environ.get("HARDMINE_FAULT_KILLS", "4"))


def test_the_reference_has_something_of_everything(plant):
    reference = plant.reference()
    samples, correct, errors, near_misses, unreadable = reference["totals"][:5]
    assert (samples, unreadable) == (240, 4)
    assert correct + errors == 236
    assert errors > 20
    assert near_misses > 5
    assert len(reference["findings"]) == errors + near_misses
    assert len(reference["shards"]) == 20
    assert len(reference["ledger"]) >= 4
    assert reference["files"] == ["outcomes.parquet"]
    assert reference["events"] == ["scan started", "scan done"]


def test_kill_9_at_random_moments(plant):
    dice = random.Random(KILLS)
    kills = 0
    while kills < KILLS:
        scan = plant.start()
        plant.send(scan)
        claimed = -1  # so that a worker idle since the last test counts as new

        def strike(scan: Scan = scan) -> bool:
            nonlocal kills, claimed
            (worker,) = plant.man(1)
            if kills < KILLS and claims(scan) > claimed:
                time.sleep(dice.uniform(0, 0.3))
                worker.kill()
                kills += 1
                claimed = claims(scan)
            return not scan.is_active

        plant.await_that(scan, strike, seconds=120)
        check_undisturbed(plant, scan)
    assert kills == KILLS


def claims(scan: Scan) -> int:
    return scan.shards.aggregate(n=Sum("attempts"))["n"]


def test_kill_9_at_the_worst_moments(plant):
    moments = [("save", "part-000003"), ("saved", "part-000007")]
    moments += [("save", "outcomes"), ("saved", "outcomes"), ("delete", "part-")]
    for moment, word in moments:
        order(plant.orders, "kill", moment, word)
    scan = plant.start()
    plant.send(scan)
    plant.await_end(scan)
    wait_for(lambda: not list(plant.orders.iterdir()))  # the last comes after the end
    check_undisturbed(plant, scan, but="files")
    # The broker hands the dead worker's last message out again, hours later.
    tasks.finish_scan.delay(scan.pk)
    plant.await_that(scan, lambda: bool(plant.man(1)) and len(files(scan)) == 1)
    check_undisturbed(plant, scan)


def test_a_shard_delivered_twice_at_once_is_scanned_once(plant):
    plant.man(2)
    wait_for(lambda: len(app.control.ping(timeout=0.5, limit=2)) == 2)
    scan = plant.start()
    shards = list(scan.shards.values_list("pk", flat=True))
    for pk in shards:
        tasks.run_shard.delay(pk)
        tasks.run_shard.delay(pk)
    plant.await_end(scan, workers=2)
    # On a busy machine a lease may run out; a second delivery alone claims nothing.
    lost = scan.shards.aggregate(n=Sum("losses"))["n"]
    assert claims(scan) == len(shards) + lost
    check_undisturbed(plant, scan)


def test_a_woken_worker_records_nothing_while_another_has_its_shard(plant):
    (first,) = plant.man(1)
    order(plant.orders, "freeze", "save", "part-000002")
    order(plant.orders, "freeze", "save", "part-000002")
    scan = plant.start()
    plant.send(scan)
    plant.await_that(scan, lambda: first.is_frozen)
    second = plant.hire()
    plant.await_that(scan, lambda: second.is_frozen)
    with plant.no_sweeps():
        first.thaw()
        wait_for(
            lambda: len(app.control.ping(timeout=0.5, limit=1)) == 1
        )  # it has nothing to do
        shard = scan.shards.get(number=2)
        assert (shard.state, shard.attempts) == (Shard.State.RUNNING, 2)
        assert "part-000002-1.parquet" not in files(scan)
    second.thaw()
    plant.await_end(scan, workers=None)
    check_undisturbed(plant, scan)
    assert first.is_alive


@pytest.mark.parametrize("word", ["part-000002", "outcomes"])
def test_a_worker_frozen_while_it_stores_wakes_up_to_nothing(plant, word):
    assert plant.reference()["files"] == ["outcomes.parquet"]  # it needs the worker
    (frozen,) = plant.man(1)
    order(plant.orders, "freeze", "save", word)
    scan = plant.start()
    plant.send(scan)
    plant.await_that(scan, lambda: frozen.is_frozen)
    let_another_finish_and_wake(plant, scan, frozen)


def test_a_worker_frozen_in_the_middle_wakes_up_to_nothing(plant):
    assert plant.reference(**SLOW)["totals"][0] == 40  # it needs the worker
    (frozen,) = plant.man(1)
    scan = plant.start(**SLOW)
    plant.send(scan)
    plant.await_that(scan, lambda: scan.shards.get().state == Shard.State.RUNNING)
    frozen.freeze()
    assert scan.shards.get().state == Shard.State.RUNNING
    let_another_finish_and_wake(plant, scan, frozen, **SLOW)


def let_another_finish_and_wake(
    plant: Plant, scan: Scan, frozen: Worker, **options: object
) -> None:
    """Check that the woken one changes nothing, and works on."""
    other = plant.hire()
    plant.await_end(scan, workers=None)
    assert frozen.is_frozen
    check_undisturbed(plant, scan, **options)
    rows = list(scan.shards.values())
    before = facts(scan)
    frozen.thaw()
    other.kill()
    plant.check_it_works_on()
    assert plant.man(1) == [frozen]
    assert list(scan.shards.values()) == rows
    assert facts(scan) == before


def test_cancel_stops_within_a_batch_and_resume_goes_on(plant):
    plant.reference(**SLOW)
    slow = Shard.objects.filter(samples=40).earliest("id")
    plant.man(1)
    scan = plant.start(**SLOW)
    plant.send(scan)
    plant.await_that(scan, lambda: scan.shards.get().state == Shard.State.RUNNING)
    cancel_scan(scan=scan, by=plant.staff)
    following = plant.start(split="val")
    plant.send(following)
    plant.await_end(following)
    turned_to_it = following.shards.order_by("started_at").first().started_at
    took = (turned_to_it - scan.finished_at).total_seconds()
    assert took < min(1, slow.pace["seconds"] / 2)
    assert files(scan) == []

    resume_scan(scan=scan, by=plant.staff)
    plant.send(scan)
    plant.await_end(scan)
    check_undisturbed(plant, scan, but="events", **SLOW)
    assert facts(scan)["events"] == [
        "scan started",
        "scan cancelled",
        "scan resumed",
        "scan done",
    ]
