"""The worker's side of a broker that goes away."""

from __future__ import annotations

import pytest
from kombu import Connection
from redis.exceptions import ConnectionError as RedisGone


@pytest.fixture
def channel(settings):
    with Connection(settings.CELERY_BROKER_URL) as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1)
        yield channel


@pytest.mark.parametrize("way", ["ack", "reject"])
def test_a_message_that_cannot_be_acknowledged_blocks_no_other(
    channel, monkeypatch, way
):
    qos = channel.qos

    def away(*_args, **_kwargs):
        raise RedisGone("the broker is away")

    qos._delivered["tag"] = object()
    assert not qos.can_consume()
    monkeypatch.setattr(qos, "_remove_from_indices", away)
    with pytest.raises(RedisGone):
        getattr(qos, way)("tag")
    assert qos.can_consume()
    qos._delivered.clear()
