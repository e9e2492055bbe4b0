"""Messages to the broker: published once, as the database knows what is to be done."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from celery import Task, current_app
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

# A connection of its own, and tried once, as a person waits for the page. Workers wait on
# theirs: such a time-out would break it.
BRIEFLY: Final = {"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0}


def messages_in(queue: str) -> int | None:
    """Return how many messages wait in a queue; None when the broker does not answer."""
    try:
        with current_app.connection_for_read(transport_options=BRIEFLY) as connection:
            channel: Any = connection.default_channel  # the stubs know a base class
            declared = channel.queue_declare(queue=queue, passive=True)
            return int(declared.message_count)
    except ChannelError:  # an empty queue does not exist
        return 0
    except (OperationalError, RedisError) as error:
        logger.warning("The broker does not answer (%s).", error)
        return None


def send(task: Task[[int], None], pks: Sequence[int], *, countdown: float = 0) -> None:
    """Publish once; without a broker the work waits for `recover_lost_work`."""
    if not pks:
        return
    try:
        with task.app.connection_for_write(transport_options=BRIEFLY) as connection:
            for pk in pks:
                task.apply_async(  # type: ignore[call-arg]  # the stubs lack it
                    (pk,), connection=connection, retry=False, countdown=countdown
                )
    except (OperationalError, RedisError) as error:
        logger.warning(
            "%s was not sent to the broker (%s). It stays queued and is sent within "
            "minutes of the broker's return.",
            task.name,
            error,
        )
