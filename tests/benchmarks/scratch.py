"""A scratch folder with servers of its own, that end before the folder goes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reviewapp.services_keeper import is_locked

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def scratch(*, connections: int = 100) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give a folder and the environment of processes that use the servers in it.

    The database is migrated and takes so many connections; nothing runs yet.
    """
    with tempfile.TemporaryDirectory(prefix="hardmine-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL is another user than root
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "reviewapp.settings",
            "HARDMINE_VAR": str(folder / "var"),
            "HARDMINE_DATA_ROOTS": name,
            "HARDMINE_MODEL_ROOTS": name,
            "OMP_NUM_THREADS": "1",
        }
        setting = f"ALTER SYSTEM SET max_connections = {connections}"
        code = (
            "import django; django.setup();"
            "from django.core.management import call_command;"
            "from django.db import connection;"
            "call_command('migrate', verbosity=0);"
            f"connection.cursor().execute({setting!r})"
        )
        command = [sys.executable, "-c", code]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        wait_for_stop(folder)  # the setting needs a restart
        try:
            yield folder, environment
        finally:
            wait_for_stop(folder)


def wait_for_stop(folder: Path) -> None:
    """Wait for the servers in its var, which stop after their last process."""
    while is_locked(folder / "var", "keeper.lock"):
        time.sleep(0.2)
