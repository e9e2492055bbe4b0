from __future__ import annotations

import os

import pytest

from mining import threads


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("150000 100000", 2), ("10000 100000", 1), ("9999999 1000", 8)],
)
def test_a_containers_quota_counts(tmp_path, monkeypatch, quota, expected):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(threads, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert threads.available_cpus() == expected


@pytest.mark.parametrize(
    ("cpus", "workers", "lanes", "readers"),
    [(1, 0, 1, 16), (2, 0, 2, 16), (16, 0, 16, 64), (64, 0, 64, 64), (2, 5, 5, 20)],
)
def test_there_is_a_lane_for_each_cpu(monkeypatch, cpus, workers, lanes, readers):
    monkeypatch.setattr(threads, "available_cpus", lambda: cpus)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    plan = threads.plan_threads(workers=workers)
    assert plan == threads.ThreadPlan(lanes, readers, intra_op=1)
