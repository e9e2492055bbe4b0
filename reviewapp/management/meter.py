"""Progress of long work: a bar on a terminal, a quiet line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

QUIET_SECONDS = 15.0


class Meter:
    """Counts what is done, inside a `with` block.

    Args:
        out: Where the quiet lines go; the bar goes to the error output.
        label: What is going on, such as "Scanning".
        total: How much there is to do, None while that is not known.
    """

    def __init__(self, out: OutputWrapper, label: str, total: int | None) -> None:
        self._out, self._label, self._total = out, label, total
        self._done = 0
        self._began = self._spoke = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(label, total=total)

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if kind is None and self._bar.disable:
            seconds = time.monotonic() - self._began
            self._out.write(f"{self._label}: {self._done:,} in {seconds:.1f} s")

    def advance(self, n: int = 1) -> None:
        """Tell that `n` more are done."""
        self.reach(self._done + n)

    def reach(self, done: int) -> None:
        """Tell how many are done in all."""
        self._done = done
        self._bar.update(self._task, completed=done)
        now = time.monotonic()
        if self._bar.disable and now - self._spoke >= QUIET_SECONDS:
            self._spoke = now
            of = f" of {self._total:,}" if self._total is not None else ""
            self._out.write(f"{self._label}: {done:,}{of}")


class _Rate(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")
