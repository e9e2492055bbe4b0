"""The sign of life of a worker that scans a shard, trains, or makes something."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connection

from reviewapp.actions.shards import beat_shard, is_shard_held
from reviewapp.models import Shard
from reviewapp.persistence import DATABASE_ERRORS

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
ASK_SECONDS = 0.25
BEATS_PER_LEASE = 4
JOIN_SECONDS = 5.0


class Heart:
    """Tells the database now and then that the worker lives, and hears when to stop.

    A database that does not answer changes nothing: the work goes on, and what it is worth
    is decided when it is recorded.
    """

    def __init__(
        self, name: str, *, beat: Callable[[], bool], is_held: Callable[[], bool]
    ) -> None:
        """Begin with work that was claimed just now.

        Args:
            name: Of the work, for the log.
            beat: Writes that the worker lives; returns False when it should stop.
            is_held: Returns False when it should stop.
        """
        self._name = name
        self._write = beat
        self._is_held = is_held
        self._thread = threading.get_ident()
        self._progress = self._beaten = self._asked = time.monotonic()
        self._stopped = False

    def go_on(self) -> None:
        """Report progress, at most once a second."""
        self._progress = time.monotonic()
        if self._progress - self._beaten >= BEAT_SECONDS:
            self.beat_now()

    def beat_now(self) -> None:
        """Report what is done so far."""
        self._beaten = self._asked = time.monotonic()
        self._hear(self._write)

    def should_stop(self) -> bool:
        """Whether the work was cancelled or given to another worker.

        Any thread may ask; the one that made this object asks the database, at most
        four times a second.
        """
        now = time.monotonic()
        mine = threading.get_ident() == self._thread
        if mine and not self._stopped and now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._hear(self._is_held)
        return self._stopped

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the lease while the block is at work, even between two batches.

        Loading a model may take longer than the lease, and so may a batch. What makes no
        progress for SHARD_STALL_SECONDS is given up all the same.
        """
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join(JOIN_SECONDS)

    def _keep(self, ended: threading.Event) -> None:
        pause = settings.SHARD_LEASE_SECONDS / BEATS_PER_LEASE
        while not ended.wait(pause):
            now = time.monotonic()
            if now - self._progress > settings.SHARD_STALL_SECONDS:
                logger.error("%s makes no progress: it is given up.", self._name)
                return
            if now - self._beaten < pause:
                continue
            self._beaten = now
            try:
                self._write()
            except DATABASE_ERRORS as error:
                logger.warning("%s: no sign of life (%s)", self._name, error)
            finally:
                connection.close()  # this thread's own

    def _hear(self, ask: Callable[[], bool]) -> None:
        try:
            self._stopped = not ask()
        except DATABASE_ERRORS as error:
            logger.warning("%s goes on without the database (%s)", self._name, error)
            if not connection.in_atomic_block:
                connection.close()


class Pulse(Heart):
    """The heart of a worker that scans a shard."""

    def __init__(self, shard: Shard, pace: Callable[[], dict[str, Any]]) -> None:
        """Begin with a shard that was claimed just now.

        Args:
            shard: As claimed.
            pace: Returns what the worker measured so far.
        """
        self._samples_done = 0
        super().__init__(
            str(shard),
            beat=lambda: beat_shard(
                shard=shard, samples_done=self._samples_done, pace=pace()
            ),
            is_held=lambda: is_shard_held(shard=shard),
        )

    def beat(self, samples_done: int) -> None:
        """Report how many samples are done, at most once a second."""
        self._samples_done = samples_done
        self.go_on()
