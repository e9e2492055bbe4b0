"""Locks of the embedded servers, and the keeper that stops unused servers.

Everything is decided by `flock`, which the kernel releases however a process dies;
no process id is trusted to say who lives. In ``VAR/services``:

* ``users.lock``: held shared by every user of the servers, for its lifetime.
* ``start.lock``: held by whoever starts or stops a server.
* ``keeper.lock``: held by the keeper, one small process for each VAR.
* ``postgres.lock``, ``valkey.lock``: inherited by a server and all its children, so a
  free one proves that no process can still write to the data.

No deadlock: a user takes ``users.lock``, then waits for ``start.lock``. The keeper
waits for ``users.lock`` with no other of the two and, once it has ``start.lock``, only
tries ``users.lock``. While it stops the servers it holds both, so a newcomer waits at
``users.lock`` and then finds them down. It lets ``keeper.lock`` go before the others,
so that the newcomer sees that a new keeper is needed.

This file is also the keeper's program, run alone and isolated: standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 60.0
# Folder under VAR and file with the process id, in the order of stopping.
VALKEY = ("valkey", "valkey.pid")
POSTGRES = ("postgres", "postmaster.pid")


def open_lock(var: Path, name: str) -> int:
    """Open a lock file of `var`, unlocked; no program started by us inherits it."""
    path = var / "services" / name
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def opened(var: Path, name: str) -> Iterator[int]:
    """Open a lock file, and close it, which unlocks it unless others share it."""
    descriptor = open_lock(var, name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, *, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file without waiting; say whether that worked."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(var: Path, name: str) -> bool:
    """Say whether some process holds a lock of `var` for itself."""
    with opened(var, name) as descriptor:
        # Shared, so that two who look at once do not take each other for the owner.
        return not try_lock(descriptor, kind=fcntl.LOCK_SH)


def interrupt(var: Path, folder: str, pid_file: str) -> None:
    """Ask a server to stop, sparing a stranger that has its old process id."""
    home = var / folder
    if not is_locked(var, f"{folder}.lock"):
        return
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((home / pid_file).read_bytes().split()[0])
        if Path("/proc/self").exists():
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if os.fsencode(home) not in command:
                return
        os.kill(pid, signal.SIGINT)  # to both servers: stop now, cleanly


def start_keeper(var: Path, *, grace_s: float) -> None:
    """Start the keeper of `var` unless it lives; the caller holds ``start.lock``."""
    with opened(var, "keeper.lock") as lock:
        if not try_lock(lock):
            return
        program = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
        with (var / "services" / "keeper.log").open("ab") as log:
            subprocess.run(  # noqa: S603 - this file
                [*program, str(var), str(grace_s), str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                pass_fds=(lock,),  # locked already: no moment without an owner
                start_new_session=True,
                check=True,
            )


def keep(var: Path, *, grace_s: float, keeper: int) -> None:
    """Stop the servers once nobody has used them for `grace_s` seconds."""
    if os.fork():
        os._exit(0)  # so the keeper is no child of the process that wanted it
    users, start = open_lock(var, "users.lock"), open_lock(var, "start.lock")
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)
        last_came = os.fstat(users).st_mtime_ns
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(grace_s)
        fcntl.flock(start, fcntl.LOCK_EX)
        if os.fstat(users).st_mtime_ns == last_came and try_lock(users):
            break
        fcntl.flock(start, fcntl.LOCK_UN)
    deadline = time.monotonic() + PATIENCE_S
    for folder, pid_file in (VALKEY, POSTGRES):
        interrupt(var, folder, pid_file)
        while is_locked(var, f"{folder}.lock") and time.monotonic() < deadline:
            time.sleep(0.02)
    os.close(keeper)


if __name__ == "__main__":
    keep(Path(sys.argv[1]), grace_s=float(sys.argv[2]), keeper=int(sys.argv[3]))
