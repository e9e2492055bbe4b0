"""The numbers of a scan: speed, time left, workers, what limits it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reviewapp.models import Scan, Shard
from reviewapp.watching import recheck_line, watch, with_first_keys
from tests import factories

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PACE = {
    "device": "cpu",
    "precision": "bfloat16",
    "decode": "cpu",
    "lanes": 2,
    "images": 100,
    "seconds": 10.0,
    "decode_s": 4.0,
    "model_s": 15.0,
    "wait_s": 1.0,
    "memory_mb": 600,
    "gpu_memory_mb": None,
}


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def scan(version):
    return factories.ScanFactory(
        model_version=version,
        state=Scan.State.RUNNING,
        samples=10_000,
        correct=None,
        errors=None,
        near_misses=None,
        unreadable=None,
        started_at=NOW - timedelta(hours=1),
    )


def shard(scan: Scan, worker: str, state: str, **fields: object) -> Shard:
    """Make a shard that began `began` seconds ago and was heard of `heard` s ago."""
    heard = NOW - timedelta(seconds=fields.pop("heard", 0))
    done = fields.get("samples_done", 0)
    return factories.ShardFactory(
        scan=scan,
        worker=worker,
        state=state,
        samples=max(done, 1),
        correct=done if state == "done" else 0,
        started_at=NOW - timedelta(seconds=fields.pop("began", 10)),
        heartbeat_at=heard,
        finished_at=heard if state == "done" else None,
        **fields,
    )


def test_the_speed_is_that_of_the_last_minute_not_the_mean_since_the_start(scan):
    shard(scan, "a", "done", samples_done=10, began=3600, heard=3500)  # slow, long ago
    shard(scan, "a", "done", samples_done=1000, began=30, heard=10)  # 1000 in 20 s
    shard(scan, "a", "running", samples_done=500, began=10, heard=0)  # 500 in 10 s
    shard(scan, "b", "running", samples_done=100, began=10, heard=0)  # 100 in 10 s
    now = watch(scan)
    assert now.done == 1610
    assert now.rate == pytest.approx(50 + 10)
    assert now.left == timedelta(seconds=(10_000 - 1610) / 60)
    assert now.states == {"done": 2, "running": 2}
    assert [(w.name, w.done, w.part, w.state) for w in now.workers] == [
        ("a", 2, 2, "running"),
        ("b", 0, 3, "running"),
    ]


def test_processes_of_one_name_add_up(scan):
    for _ in range(2):
        shard(scan, "host", "running", samples_done=200, began=10)
    assert watch(scan).rate == pytest.approx(40)


def test_a_silent_worker_is_lost_and_adds_nothing(scan, settings):
    lease = settings.SHARD_LEASE_SECONDS
    shard(scan, "gone", "running", samples_done=900, began=lease + 60, heard=lease + 1)
    shard(scan, "slow", "running", samples_done=900, began=lease + 60, heard=lease - 1)
    now = watch(scan)
    assert {w.name: w.state for w in now.workers} == {"gone": "lost", "slow": "running"}
    assert (now.rate, now.left) == (None, None)


def test_a_requeued_part_leaves_its_worker_idle(scan):
    shard(scan, "a", "queued", heard=300, losses=1)
    [worker] = watch(scan).workers
    assert (worker.state, worker.part, worker.rate) == ("idle", None, None)


def test_a_finished_scan_has_the_mean_speed(scan):
    scan.state = Scan.State.DONE
    scan.finished_at = scan.started_at + timedelta(seconds=100)
    shard(scan, "a", "done", samples_done=5000, began=3600, heard=3500)
    now = watch(scan)
    assert (now.rate, now.left) == (50, None)
    assert now.elapsed == timedelta(seconds=100)


def test_a_scan_that_has_not_begun_has_no_numbers(scan):
    scan.started_at, scan.state = None, Scan.State.QUEUED
    shard(scan, "", "queued")
    now = watch(scan)
    assert (now.done, now.elapsed, now.rate, now.left) == (0, None, None, None)
    assert (now.workers, now.pace, now.limit) == ([], {}, "")


def test_the_paces_are_summed_by_postgresql_and_by_device(scan):
    gpu = PACE | {"device": "cuda: NVIDIA H200", "gpu_memory_mb": 9000, "images": 50}
    for pace in (PACE, PACE | {"memory_mb": 700}, gpu):
        shard(scan, "a", "done", samples_done=100, pace=pace)
    shard(scan, "a", "done", samples_done=100, heard=61, began=90, pace=PACE)
    lately = watch(scan).pace  # the last minute alone
    assert lately["images"] == 250
    assert lately["model_s"] == 45
    assert (lately["lanes"], lately["memory_mb"], lately["gpu_memory_mb"]) == (
        2,
        700,
        9000,
    )
    assert lately["device"] == "cpu, cuda: NVIDIA H200"
    scan.state = Scan.State.DONE
    assert watch(scan).pace["images"] == 350


def test_what_limits_the_speed_is_a_sentence(scan):
    shard(scan, "a", "running", samples_done=100, pace=PACE)
    assert watch(scan).limit == (
        "The model takes 75 % of the time of 2 threads, decoding 20 %, waiting for "
        "files 5 %."
    )
    [worker] = watch(scan).workers
    assert (worker.device, worker.precision, worker.memory_mb) == (
        "cpu",
        "bfloat16",
        600,
    )


def test_many_shards_cost_three_queries_and_are_asked_for_less_often(scan):
    def cost() -> int:
        with CaptureQueriesContext(connection) as found:
            watch(scan)
        return len(found)

    shard(scan, "a", "running", samples_done=1, pace=PACE)
    assert watch(scan).poll_seconds == 1
    Shard.objects.bulk_create(
        Shard(scan=scan, number=n, first_sample=n, last_sample=n, samples=1)
        for n in range(1, 5001)
    )
    assert cost() == 3  # states, workers, paces
    assert watch(scan).poll_seconds == 5
    assert watch(scan).states == {"queued": 5000, "running": 1}


@pytest.mark.parametrize(
    ("rechecked", "changed", "said"),
    [
        (None, None, ""),
        (0, 0, ""),
        (
            214,
            3,
            "214 close calls were computed again in float32; 3 predictions changed (0.03 %)",
        ),
        (
            1,
            1,
            "1 close call was computed again in float32; 1 prediction changed (0.01 %)",
        ),
    ],
)
def test_the_recheck_is_said_with_its_share(rechecked, changed, said):
    scan = Scan(correct=9000, errors=1000, rechecked=rechecked, changed=changed)
    assert recheck_line(scan) == said


def test_a_share_that_is_not_zero_is_not_written_as_zero():
    scan = Scan(correct=97_000, errors=800, rechecked=214, changed=3)
    assert "3 predictions changed (< 0.01 %)" in recheck_line(scan)


def test_a_part_names_its_first_samples_of_the_split_that_are_there(scan, labels):
    samples = [factories.SampleFactory(label=labels[0]) for _ in range(5)]
    samples[0].split = "train"
    samples[0].save(update_fields=["split"])
    samples[1].removed_at = NOW
    samples[1].save(update_fields=["removed_at"])
    made = factories.ShardFactory(
        scan=scan,
        first_sample=samples[0].pk,
        last_sample=samples[3].pk,
        samples=3,
    )
    [found] = with_first_keys(Shard.objects.filter(pk=made.pk), scan)
    assert found.first_keys == [samples[2].key, samples[3].key]
