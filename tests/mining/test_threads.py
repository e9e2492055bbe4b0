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
    ("cpus", "device", "decode", "intra_op"),
    [(1, "cpu", 1, 1), (2, "cpu", 1, 2), (16, "cpu", 4, 16), (16, "cuda", 16, 1)],
)
def test_a_gpu_leaves_the_cpus_to_the_decoder(
    monkeypatch, cpus, device, decode, intra_op
):
    monkeypatch.setattr(threads, "available_cpus", lambda: cpus)
    assert threads.plan_threads(device=device) == threads.ThreadPlan(decode, intra_op)
