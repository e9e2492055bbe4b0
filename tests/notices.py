"""What the tests of notices share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import time_machine
from django.utils import timezone

from reviewapp.actions.deliveries import due_deliveries
from reviewapp.actions.notices import choose_mails
from reviewapp.models import User
from reviewapp.notifying import send_delivery
from tests.receivers import Receiver

ALL = ["scan.finished", "regression", "gate.failed"]


def wanting(user: User, *kinds: str) -> User:
    """Give a person an address and let them want e-mails."""
    user.email = f"{user.username}@example.org"
    user.save()
    return choose_mails(user=user, kinds=kinds)


def send_all() -> None:
    """Send what is due, as the workers do."""
    for pk in due_deliveries():
        send_delivery(delivery_id=pk)


@contextmanager
def later(**time: float) -> Iterator[None]:
    """Go on in some time."""
    with time_machine.travel(timezone.now() + timedelta(**time), tick=False):
        yield


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    """Return what was received, the first one first."""
    return [json.loads(request.body) for request in receiver.requests]
