"""One training run from its samples to a registered version, as a worker runs it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage

from mining.exceptions import BadCheckpoint, MiningError
from mining.specs import checkpoint_digest
from mining.training.settings import EpochFigures, Trained, TrainSettings
from reviewapp.actions.training import (
    beat_training,
    begin_with,
    is_training_held,
    note_epoch,
    note_saved,
)
from reviewapp.actions.verifying import finish_training
from reviewapp.exceptions import HardmineError
from reviewapp.models import ModelVersion, TrainingRun
from reviewapp.persistence import outlast
from reviewapp.pulse import Heart
from reviewapp.storage import delete_files, scratch_folder, storage_errors, store_bytes
from reviewapp.tracking import track
from reviewapp.training_material import gather
from reviewapp.training_places import place_of, publish, require_writable, withdraw

logger = logging.getLogger(__name__)

Watch = Callable[[int, int, int], None]
WEIGHTS = "weights.safetensors"


class _TakenAway(Exception):  # noqa: N818 (it says what happened, and is no error)
    """The run was cancelled or given to another worker: stop, and write nothing."""


def train_run(run: TrainingRun, *, watch: Watch | None = None) -> bool:
    """Train a claimed run and register what came of it.

    Args:
        run: As `claim_training` gave it.
        watch: Told of each step: the epoch from 1, samples done and samples in it.

    Returns:
        False when the run was taken away; then nothing was registered.

    Raises:
        MiningError: The parent, the samples or the place for the weights cannot be used.
            What was learned until then is kept.
        OSError: The storage failed.
        OperationalError: The database did not come back in time.
    """
    _check_parent(run.parent)
    place = place_of(run)
    require_writable(place)
    steps = _Steps(run, watch)
    try:
        with steps.heart.kept(), scratch_folder() as folder:
            trained = _train(run, steps, folder)
            publish(folder / WEIGHTS, place)
            outlast(lambda: _finish(run, place, trained, steps.notes))
    except _TakenAway:
        logger.info("%s was taken away; it stops.", run)
    # Asked and not told: a commit whose answer was lost counts.
    registered = outlast(lambda: _registered(run))
    if registered != place:  # the same weights may have been there before
        withdraw(place)
    if registered:
        _forget_states(run)
        track(run)
    return bool(registered)


def _finish(run: TrainingRun, place: str, trained: Trained, notes: list[str]) -> None:
    outcome = asdict(trained) | {"notes": [*notes, *trained.notes]}
    epochs = outcome.pop("epochs")
    try:
        finish_training(run=run, checkpoint=place, epochs=epochs, outcome=outcome)
    except (HardmineError, MiningError):
        withdraw(place)
        raise


def _train(run: TrainingRun, steps: _Steps, folder: Path) -> Trained:
    # torch takes seconds and half a gigabyte: only the process that trains loads it.
    from mining.training import retrain  # noqa: PLC0415

    material = outlast(lambda: gather(run))
    if outlast(lambda: begin_with(run=run, material=material.digest)):
        steps.notes.append(
            "The data set changed since it was begun: it was trained from its first "
            "epoch again."
        )
    steps.folder = folder
    steps.check()
    trained = retrain(
        parent=run.parent.checkpoint,
        spec=run.parent.spec(),
        train=material.train,
        val=material.val,
        recipe=material.recipe,
        settings=TrainSettings.from_dict(run.settings),
        out=folder / WEIGHTS,
        state=StoredState(run),
        on_step=steps.step,
        on_epoch=steps.epoch,
    )
    if not outlast(lambda: is_training_held(run=run)):
        raise _TakenAway
    return trained


def _check_parent(parent: ModelVersion) -> None:
    if checkpoint_digest(parent.checkpoint) != parent.digest:
        raise BadCheckpoint(
            f"{parent.checkpoint} is not the file that was registered any more. Nothing "
            "was trained. Put that file back, or train on another version."
        )


def _registered(run: TrainingRun) -> str:
    """Return where what this attempt registered lies; "" when it registered nothing."""
    done = TrainingRun.objects.filter(
        pk=run.pk, state=TrainingRun.State.DONE, attempts=run.attempts
    )
    return done.values_list("version__checkpoint", flat=True).first() or ""


class _Steps:
    """What happens between the steps of a training: signs of life, and figures kept."""

    def __init__(self, run: TrainingRun, watch: Watch | None) -> None:
        self.folder: Path | None = None
        self.notes: list[str] = []
        self._run, self._watch = run, watch
        self._progress: dict[str, Any] = {}
        self._since: float | None = None  # of this attempt's first step
        self._last = (0, 0)  # epoch, samples done in it
        self._done = 0  # since then
        self.heart = Heart(
            str(run),
            beat=lambda: beat_training(run=run, progress=self._progress),
            is_held=lambda: is_training_held(run=run),
        )

    def check(self) -> None:
        """Raise `_TakenAway` when the run goes on elsewhere, or not at all."""
        if self.heart.should_stop():
            raise _TakenAway

    def step(self, epoch: int, done: int, of_all: int) -> None:
        """Note how far it is."""
        now = time.monotonic()
        if self._since is None:  # the first step loads and warms up
            self._since = now
        else:
            self._done += done - (self._last[1] if epoch == self._last[0] else 0)
        self._last = (epoch, done)
        spent = now - self._since
        rate = round(self._done / spent, 1) if spent > 0 else None
        self._progress = {"epoch": epoch, "done": done, "all": of_all, "rate": rate}
        self.heart.go_on()
        self.check()
        if self._watch:
            self._watch(epoch, done, of_all)

    def epoch(self, figures: EpochFigures) -> None:
        """Keep the figures of an epoch."""
        if self.folder:
            os.utime(self.folder)  # old folders are taken for left over
        if not outlast(lambda: note_epoch(run=self._run, figures=figures)):
            raise _TakenAway


class StoredState:
    """What a run can go on from, in the storage.

    Each file has a name of its own and counts once the run names it, so that a worker that
    was given up and wakes up writes over nothing.
    """

    def __init__(self, run: TrainingRun) -> None:
        """Take a run as claimed."""
        self._run = run
        self._number = 0

    def load(self) -> bytes | None:
        """Return what was saved last, None when there is nothing.

        Raises:
            OSError: The storage does not answer.
        """
        if not self._run.saved:
            return None
        try:
            with default_storage.open(self._run.saved) as file:
                data: bytes = file.read()
                return data
        except FileNotFoundError:
            return None
        except storage_errors() as error:
            raise OSError(
                f"{self._run.saved} cannot be read from the storage: {error}"
            ) from error

    def save(self, data: bytes) -> None:
        """Keep the bytes in place of the ones before.

        Raises:
            ArtefactError: The storage could not take them; the ones before are kept.
            OperationalError: The database did not come back in time.
        """
        self._number += 1
        attempt = f"{self._run.attempts}-{self._number}.safetensors"
        name = f"{_folder_of(self._run)}/{attempt}"
        store_bytes(name, data)
        if not outlast(lambda: note_saved(run=self._run, name=name)):
            raise _TakenAway


def _folder_of(run: TrainingRun) -> str:
    return f"training/{run.pk:06d}"


def _forget_states(run: TrainingRun) -> None:
    """Delete what the run could have gone on from, also of attempts that were killed."""
    folder = _folder_of(run)
    try:
        _, names = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    except storage_errors() as error:
        logger.warning("%s could not be listed (%s) and is left over.", folder, error)
        return
    delete_files(f"{folder}/{name}" for name in names)
