"""The one place that decides how many threads decode and how many compute."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_MAX_DECODE = 16
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """How many threads to use.

    Attributes:
        decode: Threads that read and decode images, at least 1.
        intra_op: Threads that one operation of the model may use, at least 1.
    """

    decode: int
    intra_op: int


def available_cpus() -> int:
    """Return the CPUs this process may use: its affinity, cut by a container's quota."""
    cpus = len(os.sched_getaffinity(0))
    if _CPU_QUOTA.exists():
        quota, _, period = _CPU_QUOTA.read_text().partition(" ")
        if quota != "max":
            cpus = min(cpus, max(1, round(int(quota) / int(period))))
    return cpus


def plan_threads(*, device: str = "cpu") -> ThreadPlan:
    """Plan threads for a model on `device`.

    On a CPU the model needs several times what decoding needs, so a quarter decodes; a GPU
    leaves every CPU to the decoder.
    """
    cpus = available_cpus()
    if device == "cpu":
        return ThreadPlan(decode=max(1, cpus // 4), intra_op=cpus)
    return ThreadPlan(decode=min(cpus, _MAX_DECODE), intra_op=1)
