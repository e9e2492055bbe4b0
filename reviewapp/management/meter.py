"""Progress of long work: a bar on a terminal, elsewhere one line at the end."""

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


class Meter:
    """Counts what is done, inside a `with` block.

    Args:
        out: Where the line goes; the bar goes to the error output.
        label: What is going on, such as "Scanning".
        total: How much there is to do, None while that is not known.
        done: What was done before; the rate does not count it.
    """

    def __init__(
        self, out: OutputWrapper, label: str, total: int | None, *, done: int = 0
    ) -> None:
        self._out, self._label = out, label
        self._done = done
        self._began = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(label, total=total, completed=done, note="")

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

    def expect(self, total: int) -> None:
        """Tell how much there is to do in all, once that is known."""
        self._bar.update(self._task, total=total)

    def note(self, text: str) -> None:
        """Show a few words beside the bar, such as the device."""
        self._bar.update(self._task, note=text)


class _Rate(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")
