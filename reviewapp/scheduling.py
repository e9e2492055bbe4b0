"""The scheduler that outlasts a restart of PostgreSQL."""

from __future__ import annotations

import logging
from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from reviewapp.persistence import DATABASE_ERRORS

logger = logging.getLogger(__name__)


class PatientScheduler(DatabaseScheduler):  # type: ignore[misc]  # untyped
    """Reads the schedule from the database, and keeps what it knows while that is away.

    The one of django-celery-beat 2.9 ends when the database is away at the moment at which
    it reads all of it again, every five minutes. Without it nobody finds lost work.
    """

    def all_as_schedule(self) -> dict[str, Any]:
        """Return name -> entry of all that is enabled."""
        found: dict[str, Any]
        try:
            found = super().all_as_schedule()
        except DATABASE_ERRORS as error:
            if self._schedule is None:  # it never read one
                raise
            logger.warning("The schedule could not be read again (%s).", error)
            found = self._schedule
        return found
