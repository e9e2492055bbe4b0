"""What workers make in one go: claimed, kept alive, ended, given back and given up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from reviewapp.exceptions import plain_message
from reviewapp.models.makings import M, Making, MakingQuerySet
from reviewapp.pulse import Heart

if TYPE_CHECKING:
    from reviewapp.models import User

logger = logging.getLogger(__name__)

State = Making.State


class Hold(Heart):
    """A worker's hold on what it makes, and its sign of life.

    Who was given up, but lives on, writes nothing over a successor: it did not write the
    last sign of life.

    Attributes:
        is_held: Whether this worker got it; it was queued then.
    """

    def __init__(self, making: Making) -> None:
        """Take it, if it is to be had."""
        self._rows = _all(type(making)).filter(pk=making.pk)
        self._columns: dict[str, Any] = {}
        self._lock = threading.Lock()  # the keeper's thread writes, too
        self._last = timezone.now()
        queued = self._rows.filter(state=State.QUEUED)
        self.is_held = bool(
            queued.update(state=State.RUNNING, heartbeat_at=self._last, message="")
        )
        super().__init__(str(making), beat=self._beat, is_held=self._beat)

    def tell(self, **columns: Any) -> None:
        """Write how far it is, at most once a second."""
        self._columns = columns
        self.go_on()

    def end(self, columns: dict[str, Any]) -> bool:
        """Write how it ended; False: another worker has it."""
        return self._write_held(**columns, finished_at=timezone.now())

    def _beat(self) -> bool:
        now = timezone.now()
        return self._write_held(**self._columns, heartbeat_at=now)

    def _write_held(self, **columns: Any) -> bool:
        with self._lock:
            mine = self._rows.filter(state=State.RUNNING, heartbeat_at=self._last)
            is_mine = bool(mine.update(**columns))
            self._last = columns.get("heartbeat_at", self._last)
        return is_mine


def make(
    *,
    making: M,
    outcome: Callable[[Hold], dict[str, Any]],
    then: Callable[[M], None] | None = None,
) -> M:
    """Make it and keep what came of it, or why it could not be made.

    Does nothing unless it is queued.

    Args:
        making: What to make.
        outcome: Returns the columns that hold it; may `tell` of progress.
        then: Called in the transaction of its end.
    """
    hold = Hold(making)
    making.refresh_from_db()
    if not hold.is_held:
        return making
    with hold.kept():
        columns = _columns(making, hold, outcome)
    with transaction.atomic():
        is_ended = hold.end(columns)
        making.refresh_from_db()
        if is_ended and then:
            then(making)
    return making


def _columns(
    making: Making, hold: Hold, outcome: Callable[[Hold], dict[str, Any]]
) -> dict[str, Any]:
    try:
        return {"state": State.DONE, "message": "", **outcome(hold)}
    except Exception as error:
        logger.exception("%s failed", making)
        return {"state": State.FAILED, "message": plain_message(error)}


def ask_again(*, rows: MakingQuerySet[M], by: User | None, at: datetime) -> bool:
    """Queue those that are not being made already; return whether there was one.

    What was found before stays until the new one is done.

    Args:
        rows: Which.
        by: Who asks; None: nobody, it is time for it.
        at: When.
    """
    asked = {"requested_by": by, "requested_at": at, "losses": 0}
    return bool(rows.idle().update(**asked, state=State.QUEUED, message=""))


def requeue_silent(
    *, kind: type[M], then: Callable[[M], None] | None = None
) -> list[int]:
    """Give back what silent workers made and return the ids to enqueue again.

    What waits longer than a lease is among them: its message may be lost. What was the
    end of SHARD_MAX_LOSSES workers would end the next one, too: it fails, and waits for
    somebody to ask for it again.

    Args:
        kind: Of what.
        then: Called in the transaction of each that fails.
    """
    silent = _all(kind).silent()
    last = conf.SHARD_MAX_LOSSES - 1
    silent.filter(losses__lt=last).update(state=State.QUEUED, losses=F("losses") + 1)
    for making in silent.filter(losses__gte=last):
        with transaction.atomic():
            _give_up(making, then)
    waiting = _all(kind).waiting_long().order_by("pk")
    return list(waiting.values_list("pk", flat=True))


def _all(kind: type[M]) -> MakingQuerySet[M]:
    return MakingQuerySet(kind)


def _give_up(making: M, then: Callable[[M], None] | None) -> None:
    losses = making.losses + 1
    # Silent still: one that spoke up meanwhile goes on.
    same = _all(type(making)).silent().filter(pk=making.pk, losses=making.losses)
    is_over = same.update(
        state=State.FAILED,
        losses=losses,
        finished_at=timezone.now(),
        message=f"Workers that went silent over it: {losses}, the last one after "
        f"{making.heartbeat_at:%Y-%m-%d %H:%M} (UTC). They were stopped, or ran out of "
        f"memory. {making.KEPT} Give them more memory, then ask for it again.",
    )
    if is_over and then:
        making.refresh_from_db()
        then(making)
