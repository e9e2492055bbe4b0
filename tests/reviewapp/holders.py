"""Processes that hold the embedded servers, and die in every way."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reviewapp import services_keeper
from reviewapp.services import Endpoints
from reviewapp.services_programs import Postgres, Valkey

ROOT = Path(__file__).resolve().parents[2]
GRACE_S = 0.2
PROGRAM = """
import dataclasses, json, sys, time, types
from pathlib import Path
# Without the package's own code, which loads Celery: faster, and proof of no need.
sys.modules["reviewapp"] = package = types.ModuleType("reviewapp")
package.__path__ = ["reviewapp"]
from reviewapp.services import ServiceError, ensure
options = json.loads(sys.argv[2])
try:
    ensure(Path(sys.argv[1]), **options)
    began = time.monotonic()
    endpoints = ensure(Path(sys.argv[1]), **options)
    answer = dataclasses.asdict(endpoints) | {"again_s": time.monotonic() - began}
except ServiceError as error:
    answer = {"error": str(error)}
assert "django" not in sys.modules
print(json.dumps(answer), flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that calls `ensure` and lives until it is told to end."""

    def __init__(self, var: Path, **options: Any) -> None:
        fast = {"durable": False, "grace_s": GRACE_S}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(var), json.dumps(fast | options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        return json.loads(self.process.stdout.readline())

    def endpoints(self) -> Endpoints:
        answer = self.answer()
        assert answer.pop("again_s", None), answer
        return Endpoints(**answer)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def holding(usual: Path) -> Iterator[Callable[..., Holder]]:
    """Start holders of a directory; end them and wait for the servers' end."""
    holders: list[Holder] = []
    directories: set[Path] = set()

    def start(var: Path = usual, **options: Any) -> Holder:
        directories.add(var)
        holders.append(Holder(var, **options))
        return holders[-1]

    try:
        yield start
    finally:
        for holder in holders:
            holder.kill()
        for var in directories:
            wait_for(lambda var=var: not alive(var, "keeper", "postgres", "valkey"))
            for server in (Postgres(var), Valkey(var)):
                if server.socket_path.parent != server.home:
                    shutil.rmtree(server.socket_path.parent, ignore_errors=True)


def alive(var: Path, *names: str) -> bool:
    return any(services_keeper.is_locked(var, f"{name}.lock") for name in names)


def wait_for(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
