"""The processes that Hardmine consists of, as command lines, and how to find them."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from reviewapp.celery import app

STOP_SECONDS = 10.0
QUEUES = ("scan", "default")


def web_command(*, host: str, port: int, reload: bool) -> list[str]:
    """Return the command line of the web server."""
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    words = ["-m", "gunicorn", "reviewapp.wsgi:application", "--bind", bind]
    words += ["--workers", "2", "--threads", "4", "--log-level", "warning"]
    return [sys.executable, *words, *(["--reload"] if reload else [])]


def worker_command(*queues: str, pool: str) -> list[str]:
    """Return the command line of a worker that serves these queues, one task at a time.

    Workers that scan take the pool "solo": torch's threads and CUDA survive no fork.
    """
    words = ["worker", "-Q", ",".join(queues), "--pool", pool, "--concurrency", "1"]
    return _celery(*words, "--hostname", f"{'-'.join(queues)}@%h")


def beat_command() -> list[str]:
    """Return the command line of the scheduler."""
    # No file with its process id: after a crash it would keep the next one from starting.
    return _celery("beat", "--pidfile=")


def _celery(*words: str) -> list[str]:
    program = [sys.executable, "-m", "celery", "-A", "reviewapp", "--quiet"]
    # Who starts it, manage.py, has checked; a worker would load every page for that.
    program += ["--skip-checks"]
    return [*program, *words, "--loglevel", "WARNING"]


def unserved_queues(*, patience_s: float = 1.5) -> list[str]:
    """Return the queues for which no worker answers.

    A worker that scans answers only between two shards.
    """
    answers = app.control.inspect(timeout=patience_s).active_queues() or {}
    served = {queue["name"] for queues in answers.values() for queue in queues}
    return [name for name in QUEUES if name not in served]


@contextmanager
def worker_for_now(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker for every queue while the block lasts."""
    with log.open("wb") as file:
        worker = subprocess.Popen(  # noqa: S603 (our own command line)
            worker_command(*QUEUES, pool="solo"),
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for us: we stop it in order.
            start_new_session=True,
        )
    try:
        yield worker
    finally:
        worker.terminate()
        try:
            worker.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def require_free_port(host: str, port: int) -> None:
    """Check that a server could listen there.

    Raises:
        CommandError: It could not; nothing was started.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server does it: connections that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else "cannot be used"
            raise CommandError(
                f"Port {port} of {host} {why} ({error.strerror}). Nothing was started. "
                f"Stop the program that uses it, or choose another: "
                f"manage.py up --port {port + 1}"
            ) from error
