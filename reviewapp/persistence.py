"""Work that outlasts a restart of PostgreSQL, and work that waits for nobody."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

logger = logging.getLogger(__name__)
T = TypeVar("T")

DATABASE_ERRORS = (OperationalError, InterfaceError)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds


def outlast(call: Callable[[], T]) -> T:
    """Return what `call` returns, called again while the database does not answer.

    What it computed before is dearer than a minute. It may have been carried out when the
    connection broke, so a second call must do no harm.

    Raises:
        OperationalError: The database did not come back in DATABASE_PATIENCE_SECONDS.
    """
    deadline = time.monotonic() + settings.DATABASE_PATIENCE_SECONDS
    pause = FIRST_PAUSE
    while True:
        try:
            return call()
        except DATABASE_ERRORS as error:
            # Inside a transaction what was done before would be missing.
            if connection.in_atomic_block or time.monotonic() + pause > deadline:
                raise
            logger.warning("The database does not answer (%s): trying again.", error)
        connection.close()  # the next call opens a new one
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


@contextmanager
def waiting_for_nobody(what: str) -> Iterator[None]:
    """Run a transaction that somebody else's lock ends within a second.

    What it wrote is undone then, and the log says so: who holds the lock may hang, and
    does the same work if it does not.

    Args:
        what: What is written, for the log.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")
            yield
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        logger.warning("%s are being made by another", what)
