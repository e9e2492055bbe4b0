"""What retraining and out-of-fold scans have in common while a worker is at them."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import default_storage

from reviewapp.actions.runs import beat_run, is_run_held
from reviewapp.models.runs import Run
from reviewapp.pulse import Heart
from reviewapp.storage import storage_errors


class TakenAway(Exception):  # noqa: N818 (it says what happened, and is no error)
    """The run was cancelled or given to another worker: stop, and write nothing."""


class Steps:
    """What happens between the steps of a run: signs of life, and hearing when to stop."""

    def __init__(self, run: Run) -> None:
        """Take a run as claimed."""
        self._progress: dict[str, Any] = {}
        self.heart = Heart(
            str(run),
            beat=lambda: beat_run(run=run, progress=self._progress),
            is_held=lambda: is_run_held(run=run),
        )

    def check(self) -> None:
        """Raise `TakenAway` when the run goes on elsewhere, or not at all."""
        if self.heart.should_stop():
            raise TakenAway

    def note(self, **progress: Any) -> None:
        """Note how far it is, as pages show it.

        Raises:
            TakenAway: As in `check`.
        """
        self._progress = progress
        self.heart.go_on()
        self.check()


def load_state(name: str) -> bytes | None:
    """Return what was stored under a name, None when there is nothing.

    Raises:
        OSError: The storage does not answer.
    """
    try:
        with default_storage.open(name) as file:
            data: bytes = file.read()
            return data
    except FileNotFoundError:
        return None
    except storage_errors() as error:
        raise OSError(f"{name} cannot be read from the storage: {error}") from error
