"""One training run from its samples to a registered version, as a worker runs it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from mining.exceptions import BadCheckpoint, MiningError
from mining.specs import checkpoint_digest
from mining.training.settings import EpochFigures, Trained, TrainSettings
from reviewapp.actions.runs import forget_states, is_run_held
from reviewapp.actions.training import begin_with, note_epoch, note_saved
from reviewapp.actions.verifying import finish_training
from reviewapp.exceptions import HardmineError
from reviewapp.models import ModelVersion, TrainingRun
from reviewapp.persistence import outlast
from reviewapp.running import Steps, TakenAway, load_state
from reviewapp.storage import scratch_folder, store_bytes
from reviewapp.tracking import track
from reviewapp.training_material import gather
from reviewapp.training_places import place_of, publish, require_writable, withdraw

logger = logging.getLogger(__name__)

Watch = Callable[[int, int, int], None]
WEIGHTS = "weights.safetensors"


def train_run(run: TrainingRun, *, watch: Watch | None = None) -> bool:
    """Train a claimed run and register what came of it.

    Args:
        run: As `claim_run` gave it.
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
    except TakenAway:
        logger.info("%s was taken away; it stops.", run)
    # Asked and not told: a commit whose answer was lost counts.
    registered = outlast(lambda: _registered(run))
    if registered != place:  # the same weights may have been there before
        withdraw(place)
    if registered:
        forget_states(run)
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
    if not outlast(lambda: is_run_held(run=run)):
        raise TakenAway
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


class _Steps(Steps):
    """The steps of a training, with its pace, and its figures kept."""

    def __init__(self, run: TrainingRun, watch: Watch | None) -> None:
        super().__init__(run)
        self.folder: Path | None = None
        self.notes: list[str] = []
        self._run, self._watch = run, watch
        self._since: float | None = None  # of this attempt's first step
        self._last = (0, 0)  # epoch, samples done in it
        self._done = 0  # since then

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
        self.note(epoch=epoch, done=done, all=of_all, rate=rate)
        if self._watch:
            self._watch(epoch, done, of_all)

    def epoch(self, figures: EpochFigures) -> None:
        """Keep the figures of an epoch."""
        if self.folder:
            os.utime(self.folder)  # old folders are taken for left over
        if not outlast(lambda: note_epoch(run=self._run, figures=figures)):
            raise TakenAway


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
        return load_state(self._run.saved) if self._run.saved else None

    def save(self, data: bytes) -> None:
        """Keep the bytes in place of the ones before.

        Raises:
            ArtefactError: The storage could not take them; the ones before are kept.
            OperationalError: The database did not come back in time.
        """
        self._number += 1
        attempt = f"{self._run.attempts}-{self._number}.safetensors"
        name = f"{self._run.folder}/{attempt}"
        store_bytes(name, data)
        if not outlast(lambda: note_saved(run=self._run, name=name)):
            raise TakenAway
