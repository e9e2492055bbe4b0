"""Run a benchmark again in a process that uses a scratch database."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.benchmarks.scratch import ROOT, scratch

INSIDE = "HARDMINE_BENCHMARK_INSIDE"


def run_inside(module: str) -> int | None:
    """Run the module again with an empty database and return its exit status.

    None: this process is that run, and Django is set up.
    """
    if os.environ.get(INSIDE):
        import django

        django.setup()
        return None
    with scratch() as (_, environment):
        command = [sys.executable, "-m", module, *sys.argv[1:]]
        return subprocess.run(
            command, cwd=ROOT, env={**environment, INSIDE: "1"}, check=False
        ).returncode
