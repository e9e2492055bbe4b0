"""A process that has imported torch once, and forks worker processes on demand.

Starting a worker takes four seconds of a CPU, nearly all of it imports; a test that kills
fifty of them cannot wait for that. A forked one is as real: its own process id,
connections, threads and models.

What reads settings is imported by a nest: one process for each environment, forked from
the one that has imported the libraries; workers of that environment are forked from it.

Each line read is a JSON object with `environment`, `arguments` (of celery), `log` (a
path) and `file_limit` (largest file that it may write, in bytes, or null). The answer
is the process id, on a line.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

PR_SET_PDEATHSIG = 1
LIBRARIES = (
    "torch",
    "torchvision",
    "onnxruntime",
    "pyarrow.parquet",
    "psycopg",
    "redis",
    "fsspec",
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.concurrency.solo",
    "kombu.transport.redis",
    "django.core.management",
    "django.contrib.staticfiles.finders",
    "django.db.backends.postgresql.base",
    "mining.artefact",
    "mining.checkpoints",
    "mining.scan",
)
OURS = ("reviewapp.tasks", "reviewapp.urls")


@dataclass
class Nest:
    """A process with the settings of one environment, seen from the nursery."""

    orders: IO[str]
    answers: IO[str]

    def raise_worker(self, line: str) -> str:
        self.orders.write(line)
        self.orders.flush()
        return self.answers.readline()


def main() -> None:
    for name in LIBRARIES:
        import_module(name)
    # The kernel buries the dead, so that "is it alive?" has a plain answer.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    nests: dict[str, Nest] = {}
    for line in sys.stdin:
        environment = json.loads(line)["environment"]
        key = json.dumps(environment, sort_keys=True)
        if key not in nests:
            nests[key] = build_nest(environment)
        sys.stdout.write(nests[key].raise_worker(line))
        sys.stdout.flush()


def build_nest(environment: dict[str, str]) -> Nest:
    theirs, orders = os.pipe()
    answers, ours = os.pipe()
    if not os.fork():
        die_with_parent()
        sys.excepthook = fall
        os.environ.update(environment)
        import_module("django").setup()
        for name in OURS:
            import_module(name)
        raise_workers(os.fdopen(theirs), os.fdopen(ours, "w"))
        os._exit(0)
    os.close(theirs)
    os.close(ours)
    return Nest(os.fdopen(orders, "w"), os.fdopen(answers))


def fall(*error: Any) -> None:
    """Say what went wrong and be gone: a usual exit waits for threads lost in the fork."""
    sys.__excepthook__(*error)
    os._exit(1)


def raise_workers(orders: IO[str], answers: IO[str]) -> None:
    for line in orders:
        pid = os.fork()
        if not pid:
            become_worker(**json.loads(line))
        answers.write(f"{pid}\n")
        answers.flush()


def die_with_parent() -> None:
    if sys.platform == "linux":  # none outlives its test, however that ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def become_worker(
    *,
    environment: dict[str, str],  # that of the nest
    arguments: list[str],
    log: str,
    file_limit: int | None,
) -> Any:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    die_with_parent()
    with Path("/dev/null").open("rb") as nothing, Path(log).open("ab") as file:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv = ["celery", *arguments]
    from celery.__main__ import main as celery

    sys.exit(celery())


if __name__ == "__main__":
    main()
