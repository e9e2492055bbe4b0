"""Run one embedded PostgreSQL and one Valkey for all processes of a directory.

`ensure` is called by every process. The servers start with the first of them and stop a
few seconds after the last; `reviewapp.services_keeper` explains by which locks.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from reviewapp.services_keeper import (
    PATIENCE_S,
    interrupt,
    is_locked,
    open_lock,
    opened,
    start_keeper,
    try_lock,
)
from reviewapp.services_programs import Postgres, Server, ServiceError, Valkey

__all__ = ["Endpoints", "ServiceError", "ensure"]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of the embedded servers, valid while this process lives.

    Attributes:
        database_url: For psycopg and Django, over a Unix socket.
        redis_url: For redis-py, database 0.
        broker_url: For Celery (kombu), database 0.
    """

    database_url: str
    redis_url: str
    broker_url: str


def ensure(
    var: Path,
    *,
    database: str = "hardmine",
    postgres: bool = True,
    valkey: bool = True,
    durable: bool = True,
    grace_s: float = 3.0,
) -> Endpoints:
    """Start the embedded servers unless they run, and keep them while we live.

    Args:
        var: Directory of the data, created when missing. Its processes share servers.
        database: Created when missing.
        postgres: Whether PostgreSQL is wanted.
        valkey: Whether Valkey is wanted.
        durable: False is faster, for tests, but a crash may lose the last moments, and
            a power cut all. It counts only for a server that this call starts.
        grace_s: Seconds from the end of the last process to the stop, 0 or more. It
            counts only for a keeper that this call starts.

    Returns:
        The addresses, also those of a server that was not wanted.

    Raises:
        ServiceError: If a server cannot be started; the data is kept.
    """
    var = var.resolve()
    database_server = Postgres(var, durable, database)
    queue_server = Valkey(var, durable)
    wanted: list[Server] = [database_server] * postgres + [queue_server] * valkey
    try:
        if wanted:
            _use(var, wanted, grace_s=grace_s)
    except (OSError, subprocess.SubprocessError) as error:
        raise ServiceError(
            f"The embedded servers in {var} cannot be used: {error}. Existing data was "
            "kept. Check the owner, the permissions and the free disk space there."
        ) from error
    host = quote(str(database_server.socket_path.parent))
    queue = quote(str(queue_server.socket_path))
    return Endpoints(
        database_url=f"postgresql://postgres@/{quote(database, safe='')}?host={host}",
        redis_url=f"unix://{queue}?db=0",
        broker_url=f"redis+socket://{queue}?virtual_host=0",
    )


# Descriptors of users.lock by directory: open, so locked, as long as we live.
_held: dict[Path, int] = {}


def _use(var: Path, wanted: list[Server], *, grace_s: float) -> None:
    (var / "services").mkdir(parents=True, exist_ok=True)
    users = open_lock(var, "users.lock")
    fcntl.flock(users, fcntl.LOCK_SH)
    os.utime(users)  # tells the keeper, in its grace, that somebody came
    if (before := _held.pop(var, None)) is not None:
        os.close(before)
    _held[var] = users
    for server in wanted:
        server.secure_socket()
    if is_locked(var, "keeper.lock") and all(s.probe() == "ready" for s in wanted):
        return
    with opened(var, "start.lock") as start:
        fcntl.flock(start, fcntl.LOCK_EX)
        start_keeper(var, grace_s=grace_s)
        for server in wanted:
            _bring_up(server)


def _bring_up(server: Server) -> None:
    """Make the server answer; the caller holds ``start.lock``."""
    deadline = time.monotonic() + PATIENCE_S
    while (state := server.probe()) == "busy":
        _pause(server, deadline)
    if state == "down":
        with opened(server.var, server.lock.name) as lock:
            interrupt(server.var, server.folder, server.pid_name)
            while not try_lock(lock):
                _pause(server, deadline)
            server.launch(lock)
        while (state := server.probe()) in {"busy", "down"}:
            if state == "down" and not is_locked(server.var, server.lock.name):
                raise server.failed("stopped while it was starting")
            _pause(server, deadline)
    if state == "no database":
        server.complete()


def _pause(server: Server, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise server.failed(f"did not answer within {PATIENCE_S:.0f} seconds")
    time.sleep(0.02)
