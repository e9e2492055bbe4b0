"""The outbox: each delivery is claimed by one worker at a time, tried again, given up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from reviewapp.exceptions import AlreadyRunning, plain_message
from reviewapp.models import Delivery
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.posting import NotSent

State = Delivery.State
MAX_ATTEMPTS: Final = 8
FIRST_PAUSE: Final = timedelta(minutes=1)
GROWTH: Final = 3  # 1, 3, 9, 27, 81, 243 and 729 minutes: 18 hours in all
# Longer than an attempt can take, with the look-up of a host's name.
LEASE: Final = timedelta(minutes=5)


def due_deliveries() -> list[int]:
    """Return what is to be sent now, and put it off until the lease is over.

    If the message is lost or its worker dies, it is returned again then. A claim of a
    worker that died is given back, but for the last attempt.
    """
    now = timezone.now()
    with transaction.atomic():
        # One that kills its worker must not go round for ever.
        Delivery.objects.due(now).filter(attempts__gte=MAX_ATTEMPTS).update(
            state=State.FAILED, error="No worker lived to the end of the attempt."
        )
        due = Delivery.objects.due(now).select_for_update(
            skip_locked=True, of=("self",)
        )
        pks = list(due.order_by("pk").values_list("pk", flat=True))
        Delivery.objects.filter(pk__in=pks).update(
            state=State.WAITING, due_at=now + LEASE
        )
    return pks


def claim_delivery(*, delivery_id: int) -> Delivery | None:
    """Take a delivery for one attempt; None: it is sent, given up, or another has it."""
    waiting = Delivery.objects.filter(pk=delivery_id, state=State.WAITING)
    claimed = waiting.update(
        state=State.SENDING,
        attempts=F("attempts") + 1,
        due_at=timezone.now() + LEASE,
    )
    if not claimed:
        return None
    return Delivery.objects.with_names().filter(pk=delivery_id).first()


def note_sent(*, delivery: Delivery, status: int | None) -> None:
    """Record that the receiver took it; `status` is that of its answer by HTTP."""
    Delivery.objects.held(delivery).update(
        state=State.SENT, status=status, error="", sent_at=timezone.now()
    )


def note_failure(*, delivery: Delivery, error: NotSent) -> None:
    """Record a failed attempt: the next one comes later and later, the last is the 8th."""
    is_last = error.final or delivery.attempts >= MAX_ATTEMPTS
    pause = FIRST_PAUSE * GROWTH ** (delivery.attempts - 1)
    Delivery.objects.held(delivery).update(
        state=State.FAILED if is_last else State.WAITING,
        status=error.status,
        error=plain_message(error),
        due_at=timezone.now() + pause,
    )


def drop_delivery(*, delivery: Delivery) -> None:
    """Forget an e-mail that its reader does not want any more."""
    Delivery.objects.held(delivery).delete()


def send_again(*, delivery: Delivery, by: User) -> Delivery:
    """Put a delivery in the outbox once more, with its id; the caller enqueues it.

    Raises:
        AlreadyRunning: It is being sent.
    """
    idle = Delivery.objects.filter(pk=delivery.pk).exclude(state=State.SENDING)
    with transaction.atomic():
        again = idle.update(state=State.WAITING, attempts=0, due_at=_soon())
        if not again:
            raise AlreadyRunning("It is being sent at this moment. Look again shortly.")
        dataset = delivery.notice.dataset
        record(
            "notice sent again",
            delivery.notice,
            dataset=dataset,
            actor=by,
            webhook=str(delivery.webhook),
        )
    delivery.refresh_from_db()
    return delivery


def _soon() -> datetime:
    """Return when the sweep may send what a message should have sent by then."""
    return timezone.now() + timedelta(seconds=settings.SHARD_LEASE_SECONDS)
