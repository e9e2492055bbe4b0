"""manage.py up: everything in one terminal."""

from __future__ import annotations

import shlex
import signal
import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandParser
from honcho.manager import SIGNALS, Manager

from reviewapp.management.base import DomainCommand
from reviewapp.management.processes import (
    beat_command,
    require_free_port,
    web_command,
    worker_command,
)

STOPPED_BY_HAND = SIGNALS[signal.SIGINT]["rc"]


class Command(DomainCommand):
    help = "Run web, workers and scheduler in this terminal until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--reload", action="store_true", help="restart the web server on changes"
        )

    def run(self, *, host: str, port: int, reload: bool, **options: Any) -> None:
        require_free_port(host, port)
        call_command("migrate", verbosity=0, interactive=False)
        shown = f"[{host}]" if ":" in host else host
        self.stdout.write(f"Hardmine at http://{shown}:{port} (Ctrl-C stops it)")
        self.stdout.flush()
        manager = Manager()
        # Only the worker that scans computes: the others get one thread each, unless
        # the environment says otherwise.
        single = "OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} "
        for name, threads, words in (
            ("web", single, web_command(host=host, port=port, reload=reload)),
            ("scan", "", worker_command("scan", pool="solo")),
            ("worker", single, worker_command("default", pool="prefork")),
            ("beat", single, beat_command()),
        ):
            command = f"{threads}exec {shlex.join(words)}"
            manager.add_process(name, command, cwd=str(settings.BASE_DIR))
        manager.loop()
        if manager.returncode != STOPPED_BY_HAND:
            # A part that ends by itself, even well, is a failure of the whole.
            sys.exit(manager.returncode or 1)
