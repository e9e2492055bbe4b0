"""A process that has imported torch once, and forks worker processes on demand.

Starting a worker takes four seconds, nearly all of it imports; a test that kills fifty
of them cannot wait for that. A forked one is as real: its own process id, settings,
connections, threads and models. Only libraries are imported before the fork, nothing
that reads settings.

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
from importlib import import_module
from pathlib import Path
from typing import Any

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


def main() -> None:
    for name in LIBRARIES:
        import_module(name)
    # The kernel buries the dead, so that "is it alive?" has a plain answer.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _answer("ready")
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            become_worker(**json.loads(line))
        _answer(str(pid))


def _answer(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def become_worker(
    *,
    environment: dict[str, str],
    arguments: list[str],
    log: str,
    file_limit: int | None,
) -> Any:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    if sys.platform == "linux":  # no worker outlives its test, however that ends
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with Path("/dev/null").open("rb") as nothing, Path(log).open("ab") as file:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    os.environ.update(environment)
    sys.argv = ["celery", *arguments]
    from celery.__main__ import main as celery

    sys.exit(celery())


if __name__ == "__main__":
    main()
