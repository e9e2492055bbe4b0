"""Everything in one terminal starts, serves and ends together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from reviewapp.management.commands import up as up_command
from tests.flows.worker import database_url


def run(*words: str) -> None:
    call_command("up", *words, stdout=StringIO())


def test_up_refuses_a_taken_port_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            CommandError, match=f"Port {port} .* is taken.*--port {port + 1}"
        ):
            run("--port", str(port))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_up_serves_until_ctrl_c_and_ends_with_the_part_that_dies(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(port)],
            cwd=settings.BASE_DIR,
            env=_environment(),
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until(lambda: _answers(port) and b"beat started" in _log(tmp_path))
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0, _log(tmp_path).decode()
    finally:
        up.kill()
    text = _log(tmp_path).decode()
    assert f"http://127.0.0.1:{port}" in text
    for name in ("web", "scan", "worker", "beat"):
        assert f"{name} stopped" in text
    assert not _answers(port)


@pytest.mark.parametrize(("status", "expected"), [(3, 3), (0, 1)])
def test_up_ends_with_the_status_of_the_part_that_dies(
    status: int, expected: int, monkeypatch: pytest.MonkeyPatch, db: None
) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    dies = [sys.executable, "-c", f"raise SystemExit({status})"]
    monkeypatch.setattr(up_command, "web_command", lambda **_: sleep)
    monkeypatch.setattr(up_command, "worker_command", lambda *_, **__: sleep)
    monkeypatch.setattr(up_command, "beat_command", lambda: dies)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as caught:
            run("--port", "0")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert caught.value.code == expected


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
    }


def _log(folder: Path) -> bytes:
    return (folder / "log").read_bytes()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as caller:
            caller.sendall(b"GET /healthz/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return caller.recv(12).endswith(b"200")
    except OSError:
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
