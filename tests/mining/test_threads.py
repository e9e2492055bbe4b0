from __future__ import annotations

import os
import platform
import subprocess
import sys

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


HEAPS = """
import ctypes, sys, threading
from mining.threads import limit_arenas
if sys.argv[1:]:
    limit_arenas(int(sys.argv[1]))
there = threading.Barrier(7)

def work():
    memory = bytearray(100_000)
    there.wait()
    there.wait()

for _ in range(6):
    threading.Thread(target=work).start()
there.wait()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
there.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its malloc has heaps")
@pytest.mark.parametrize(("arguments", "heaps"), [(["2"], 2), ([], 7)])
def test_threads_share_heaps(arguments, heaps, monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    command = [sys.executable, "-c", HEAPS, *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.count("<heap nr=") == heaps
