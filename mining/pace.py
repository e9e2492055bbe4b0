"""Measure where a scan's time goes and say what limits it; torch is not needed for it."""

from __future__ import annotations

import re
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

Part = Literal["read_s", "decode_s", "model_s", "wait_s"]

_STATUS: Final = Path("/proc/self/status")
SUMMED: Final = (
    "images",
    "seconds",
    "read_s",
    "decode_s",
    "model_s",
    "wait_s",
    "rechecked",
    "changed",
)
LARGEST: Final = (
    "lanes",
    "readers",
    "batch_size",
    "close_calls",
    "memory_mb",
    "gpu_memory_mb",
)
NAMED: Final = ("device", "precision", "coarse", "decode")
_SAID: Final = {
    "model_s": "the model",
    "decode_s": "decoding",
    "wait_s": "waiting for files",
}
_BUSY: Final = 0.8  # share of its time from which a thread is called busy


class Pace:
    """What one scan measures while it runs; any thread may add to it.

    Seconds of parts are summed over threads, so two threads may add two in a second.

    >>> pace = Pace()
    >>> pace.describe(device="cpu", lanes=2)
    >>> pace.count(images=16, rechecked=1)
    >>> found = pace.to_dict()
    >>> found["device"], found["lanes"], found["images"], found["rechecked"]
    ('cpu', 2, 16, 1)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._facts: dict[str, object] = {}
        self._counts = {"images": 0, "rechecked": 0, "changed": 0}
        self._parts = {"read_s": 0.0, "decode_s": 0.0, "model_s": 0.0, "wait_s": 0.0}
        self._started = self._last = time.monotonic()

    def describe(self, **facts: str | float | None) -> None:
        """Note facts of the run: device, precision, lanes, readers, decode, batch_size.

        Where precision "auto" fell back to float32: coarse, the type that was given up, and
        close_calls, the share (0-1) of the first images that rounding could have turned.
        """
        with self._lock:
            self._facts.update(facts)

    @contextmanager
    def measure(self, part: Part) -> Iterator[None]:
        """Add the time that the block takes to a part; also when it raises."""
        started = time.monotonic()
        try:
            yield
        finally:
            now = time.monotonic()
            with self._lock:
                self._parts[part] += now - started
                self._last = max(self._last, now)

    def count(self, *, images: int = 0, rechecked: int = 0, changed: int = 0) -> None:
        """Add to the images done, those computed again, and those that this changed."""
        with self._lock:
            self._counts["images"] += images
            self._counts["rechecked"] += rechecked
            self._counts["changed"] += changed
            self._last = time.monotonic()

    def to_dict(self) -> dict[str, object]:
        """Return what is known now, as JSON-like data.

        Keys: `device`, `precision`, `lanes`, `readers`, `decode`, `batch_size`, `coarse`,
        `close_calls`, as far as they were described; `images`, `rechecked`, `changed`; `seconds` on the clock;
        `read_s`, `decode_s`, `model_s` and `wait_s` in thread-seconds; `memory_mb`, the
        process's peak, and `gpu_memory_mb` or None, in MiB.
        """
        with self._lock:
            found: dict[str, object] = {"gpu_memory_mb": None, **self._facts}
            found |= self._counts
            found |= {name: round(value, 3) for name, value in self._parts.items()}
            found["seconds"] = round(self._last - self._started, 3)
        return found | {"memory_mb": round(peak_memory_mb())}


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, in MiB."""
    # ru_maxrss of a new process begins with what its parent held; the kernel's mark does not.
    text = _STATUS.read_text(errors="replace") if _STATUS.exists() else ""
    match = re.search(r"VmHWM:\s+(\d+)", text)
    if match:
        return int(match[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def combine(paces: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Sum what several shards measured.

    Counts and seconds are added up, so `seconds` are those of all workers together; of
    threads, sizes and memory the largest is kept; names that differ are listed.

    >>> both = combine([{"images": 2, "lanes": 1}, {"images": 3, "lanes": 2}])
    >>> both["images"], both["lanes"]
    (5, 2)
    """
    found: dict[str, object] = {}
    for name in (*SUMMED, *LARGEST):
        numbers = [_number(pace, name) for pace in paces if _has_number(pace, name)]
        if numbers:
            total = sum(numbers) if name in SUMMED else max(numbers)
            found[name] = round(total, 3)
    for name in NAMED:
        given = dict.fromkeys(str(pace[name]) for pace in paces if pace.get(name))
        if given:
            found[name] = ", ".join(given)
    return found


def bottleneck(pace: Mapping[str, object]) -> str:
    """Say in a sentence what a scan's time goes to, the most first; "" when not known.

    Another sentence says when the fast type was given up.

    >>> bottleneck({"lanes": 2, "model_s": 78.0, "decode_s": 20.0, "wait_s": 2.0})
    'The model takes 78 % of the time of 2 threads, decoding 20 %, waiting for files 2 %.'
    >>> bottleneck({"precision": "float32", "coarse": "bfloat16", "close_calls": 0.75})
    'bfloat16 was too coarse for this model (75 % close calls): float32.'
    """
    on_gpu = str(pace.get("device", "cpu")).startswith("cuda")
    limit = _bottleneck_of_gpu(pace) if on_gpu else _bottleneck_of_cpus(pace)
    return f"{limit} {_fallback(pace)}".strip()


def _fallback(pace: Mapping[str, object]) -> str:
    """Say that the fast type was given up, and why."""
    if not pace.get("coarse"):
        return ""
    where = " in some parts" if "," in str(pace.get("precision")) else ""
    share = f"{_number(pace, 'close_calls'):.0%}".replace("%", " %")
    return (
        f"{pace['coarse']} was too coarse for this model{where} ({share} close calls):"
        " float32."
    )


def _bottleneck_of_cpus(pace: Mapping[str, object]) -> str:
    parts = {name: _number(pace, name) for name in _SAID}
    total = sum(parts.values())
    if total <= 0:
        return ""
    (first, most), *others = sorted(parts.items(), key=lambda item: -item[1])
    head = (
        f"{_SAID[first].capitalize()} takes {most / total:.0%} of the time of"
        f" {_threads(pace)}"
    )
    rest = [f"{_SAID[name]} {seconds / total:.0%}" for name, seconds in others]
    return f"{', '.join([head, *rest])}.".replace("%", " %")


def _bottleneck_of_gpu(pace: Mapping[str, object]) -> str:
    seconds = _number(pace, "seconds")
    if seconds <= 0:
        return ""
    idle = min(1.0, _number(pace, "wait_s") / seconds)
    threads = _number(pace, "lanes") or 1
    busy = min(1.0, _number(pace, "decode_s") / (threads * seconds))
    if idle < 1 - _BUSY:
        text = (
            f"The GPU is busy {1 - idle:.0%} of the time; decoding keeps"
            f" {_threads(pace)} busy {busy:.0%} of it."
        )
    elif busy >= _BUSY:
        text = (
            f"The GPU is idle {idle:.0%} of the time: decoding keeps {_threads(pace)}"
            f" busy {busy:.0%} of it."
        )
    else:
        text = (
            f"The GPU is idle {idle:.0%} of the time, waiting for files: decoding keeps"
            f" {_threads(pace)} busy {busy:.0%} of it only."
        )
    return text.replace("%", " %")


def _threads(pace: Mapping[str, object]) -> str:
    lanes = int(_number(pace, "lanes")) or 1
    return f"{lanes} threads" if lanes > 1 else "1 thread"


def _has_number(pace: Mapping[str, object], name: str) -> bool:
    value = pace.get(name)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(pace: Mapping[str, object], name: str) -> float:
    value = pace.get(name)
    return value if isinstance(value, int | float) else 0.0
