"""Queues as seen from outside."""

from __future__ import annotations

import pytest
import redis

from fl_core.broker.doorbell.message import ring_commands
from fl_core.broker.keys import QUEUE_COUNTS, train_queue
from fl_core.broker.overview import queues as module
from fl_core.broker.overview.queues import Queues
from fl_core.wire.messages import TaskCall


def test_depth_age_and_waits(client: redis.Redis) -> None:
    """By the server's clock; counts are those that claims and doorbells leave."""
    now_ms = client.time()[0] * 1000
    for age_ms in (7000, 1000):
        call = TaskCall(campaign="digits-1", task_id="1-ab", attempt=1, queue="gpu")
        for command in ring_commands([call], now_ms - age_ms):
            client.execute_command(*command)
    client.hset(QUEUE_COUNTS, mapping={"gpu:claimed": 2, "gpu:recent": "1500,500,", "gpu:waited_ms": 2000})
    (gpu,) = Queues(client).read()
    assert (gpu.name, gpu.depth, gpu.published, gpu.claimed) == ("gpu", 2, 2, 2)
    assert 6.0 <= gpu.oldest_seconds < 30.0
    assert (gpu.recent_waits, gpu.wait_seconds, gpu.wait_quantile(1.0)) == ((1.5, 0.5), 2.0, 1.5)


@pytest.mark.parametrize("message", [b"{}", b"\xff", b'{"headers":{"published_ms":"soon"}}', b"[" * 100_000])
def test_a_message_that_is_no_doorbell_has_no_age(client: redis.Redis, message: bytes) -> None:
    """It is counted all the same: it lies there."""
    client.hset(QUEUE_COUNTS, "gpu:published", 1)
    client.lpush(train_queue("gpu"), message)
    (gpu,) = Queues(client).read()
    assert (gpu.depth, gpu.oldest_seconds) == (1, 0.0)


def test_invented_queues_push_out_no_real_one(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that somebody serves come first, then the busiest; names that are none are left out."""
    monkeypatch.setattr(module, "MAX_QUEUES", 3)
    invented = {f"x{number}:published": number + 10 for number in range(50)}
    client.hset(QUEUE_COUNTS, mapping={**invented, "gpu:published": 1, "no name:published": 99, "gpu:claimed": "y"})
    assert [queue.name for queue in Queues(client).read(["gpu"])] == ["gpu", "x48", "x49"]
