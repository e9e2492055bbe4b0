"""The sign of life of a worker that scans a shard."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import connection

from reviewapp.actions.scans import beat_shard, is_shard_held
from reviewapp.models import Shard
from reviewapp.persistence import DATABASE_ERRORS

logger = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
ASK_SECONDS = 0.25
BEATS_PER_LEASE = 4
JOIN_SECONDS = 5.0


class Pulse:
    """Tells the database now and then that the worker lives, and hears when to stop.

    A database that does not answer changes nothing: the work goes on, and what it is worth
    is decided when it is recorded.
    """

    def __init__(self, shard: Shard, pace: Callable[[], dict[str, Any]]) -> None:
        """Begin with a shard that was claimed just now.

        Args:
            shard: As claimed.
            pace: Returns what the worker measured so far.
        """
        self._shard = shard
        self._pace = pace
        self._thread = threading.get_ident()
        self._samples_done = 0
        self._progress = self._beaten = self._asked = time.monotonic()
        self._stopped = False

    def beat(self, samples_done: int) -> None:
        """Report progress, at most once a second."""
        self._samples_done = samples_done
        self._progress = time.monotonic()
        if self._progress - self._beaten >= BEAT_SECONDS:
            self.beat_now()

    def beat_now(self) -> None:
        """Report what is done so far."""
        self._beaten = self._asked = time.monotonic()
        self._hear(self._beat)

    def should_stop(self) -> bool:
        """Whether the scan was cancelled or the shard given to another worker.

        Any thread may ask; the one that made this object asks the database, at most
        four times a second.
        """
        now = time.monotonic()
        mine = threading.get_ident() == self._thread
        if mine and not self._stopped and now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._hear(lambda: is_shard_held(shard=self._shard))
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
                logger.error("%s makes no progress: it is given up.", self._shard)
                return
            if now - self._beaten < pause:
                continue
            self._beaten = now
            try:
                self._beat()
            except DATABASE_ERRORS as error:
                logger.warning("%s: no sign of life (%s)", self._shard, error)
            finally:
                connection.close()  # this thread's own

    def _beat(self) -> bool:
        return beat_shard(
            shard=self._shard, samples_done=self._samples_done, pace=self._pace()
        )

    def _hear(self, ask: Callable[[], bool]) -> None:
        try:
            self._stopped = not ask()
        except DATABASE_ERRORS as error:
            logger.warning("%s goes on without the database (%s)", self._shard, error)
            if not connection.in_atomic_block:
                connection.close()
