"""A broker that comes back finds its workers listening."""

from __future__ import annotations

from kombu.transport import redis, virtual
from redis.exceptions import RedisError


class ForgetfulQoS(redis.QoS):
    """Let a message go that the broker could not be told about.

    Kombu keeps it as delivered when the broker is away at that moment. With a prefetch of
    one, the worker then never asks for another message, and so never notices that its
    connection is gone. The broker hands the message out again after the visibility
    timeout, to a task that finds its work done.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; it is let go of even if that fails."""
        try:
            super().ack(delivery_tag)
        except (RedisError, OSError):
            virtual.QoS.ack(self, delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 (kombu's)
        """Refuse a message; it is let go of even if that fails."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        except (RedisError, OSError):
            virtual.QoS.ack(self, delivery_tag)
            raise


def install() -> None:
    """Have every channel of this process count messages in this way."""
    redis.Channel.QoS = ForgetfulQoS
