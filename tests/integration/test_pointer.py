"""The pointer to the newest version is anybody's who can write to the broker; its coordinator keeps it right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from fl_core.broker.bulk.versions import order_commands
from tests.integration.test_patches import KEYS, TASK, AtOnce, World

ORDER = TASK.order
TAMPERED: dict[str, Callable[[Any], Any]] = {
    "another place": lambda client: client.hset(KEYS.head, "place", "evil.lan:6379"),
    "no text": lambda client: client.hset(KEYS.head, "version", b"\xff\xfe"),
    "no pointer": lambda client: client.delete(KEYS.head),
    "another order": lambda client: client.set(KEYS.order, replace(ORDER, model_factory="os:system").to_bytes()),
    "another digest of the order": lambda client: client.hset(KEYS.head, "order", "0" * 32),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_pointer_that_somebody_changed_is_written_again(client: redis.Redis, name: str) -> None:
    """Seen at two looks, since a change of our own may be on its way at one; a right one is left alone."""
    world = World(client)
    world.publish()
    publisher = world.publisher
    assert not publisher.is_led_astray(ORDER.to_bytes())
    TAMPERED[name](client)
    assert not publisher.is_led_astray(ORDER.to_bytes())
    assert publisher.is_led_astray(ORDER.to_bytes())
    assert publisher.published == -1
    publisher.publish(world.model, AtOnce(client))  # type: ignore[arg-type]
    AtOnce(client).add(order_commands(KEYS, ORDER.to_bytes()))
    assert not any(publisher.is_led_astray(ORDER.to_bytes()) for _ in range(3))


def test_a_version_that_is_on_its_way_is_no_other_pointer(client: redis.Redis) -> None:
    """Between two looks it was committed, or another one came: nothing is published twice."""
    world = World(client)
    world.publish()
    for _ in range(3):
        before = client.hgetall(KEYS.head)
        world.publish()
        after = client.hgetall(KEYS.head)
        client.hset(KEYS.head, mapping=before)
        assert not world.publisher.is_led_astray(None)
        client.hset(KEYS.head, mapping=after)
        assert not world.publisher.is_led_astray(None)
    assert world.publisher.published == world.model.version
