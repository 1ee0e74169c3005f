"""Versions as they are published: whole before the pointer moves, again where they are gone, dropped when old."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from coordinator.outgoing.publisher import KEPT_VERSIONS, Publisher
from coordinator.telemetry.timing import Timing
from fl_core.broker.bulk import versions
from fl_core.broker.bulk.places import Places
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.errors import BrokerError, BrokerUnavailable
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec
from tests.unit.coordinator.stand_ins import Events, FakeClock

KEYS = CampaignKeys("digits-1")
LARGE = 80_000
"""Elements: more than what comes with the answer to a claim."""


@dataclass
class Model:
    """What a publisher reads of a strategy."""

    parameters: Parameters
    version: int = 0

    def move(self) -> None:
        self.parameters.values[:] += 1
        self.version += 1


class World:
    """A publisher over a broker in memory, whose commands take effect at ``commit``."""

    def __init__(self, size: int = 64, *, place: str = "", codec: str = "fp32") -> None:
        self.client, self.clock = MemoryClient(MemoryServer()), FakeClock()
        layout = Layout((TensorSpec("weight", (size,)),))
        self.publisher = Publisher(self.client, KEYS, layout, Timing(), place, codec_name=codec, clock=self.clock)
        self.model = Model(Parameters(np.zeros(size, np.float32)))
        self.events = Events()

    def publish(self) -> None:
        model: Any = self.model
        transaction: Any = self.events
        self.publisher.publish(model, transaction)

    def commit(self) -> None:
        for command in self.events.commands:
            self.client.execute_command(*command)
        self.events.commands.clear()

    def newest(self) -> tuple[int, list[float]]:
        """The version that a worker would get, and its first values."""
        head, payload = versions.read_newest(Places(self.client), KEYS)
        return head.version, np.frombuffer(payload, "<f4")[:3].tolist()


@pytest.mark.parametrize("size", [64, LARGE])
def test_a_version_counts_when_its_pointer_moves(size: int) -> None:
    """Until the commit workers get the one before, to the bit; after it the new one."""
    world = World(size)
    world.publish()
    world.commit()
    world.model.move()
    world.publish()
    assert (world.newest(), world.publisher.published) == ((0, [0.0] * 3), 1)
    world.commit()
    assert world.newest() == (1, [1.0] * 3)


def test_a_version_that_is_gone_is_published_again() -> None:
    """Its bytes, or its pointer: the former is seen at one look, the latter at two, as it may be on its way."""
    world = World(LARGE)
    world.publish()
    world.commit()
    world.publisher.look()
    assert (world.publisher.published, world.publisher.is_led_astray(None)) == (0, False)
    world.client.delete(KEYS.head)
    assert not world.publisher.is_led_astray(None)
    assert world.publisher.is_led_astray(None)
    assert world.publisher.published == -1
    world.publish()
    world.commit()
    world.client.delete(*world.client.keys("*:model:*"))
    world.publisher.look()
    assert world.publisher.published == -1


def test_old_versions_are_dropped_and_the_newest_are_kept() -> None:
    """A worker that has begun to fetch one ends it; at the campaign's end nothing is left."""
    world = World(LARGE)
    for _ in range(KEPT_VERSIONS + 4):
        world.model.move()
        world.publish()
        world.commit()
    transaction: Any = world.events
    world.publisher.drop_old(transaction)
    world.commit()
    assert len(versions.known(world.client, KEYS)) == KEPT_VERSIONS
    world.publisher.drop_old(transaction, kept=0)
    world.publisher.drop_all()
    world.commit()
    assert versions.known(world.client, KEYS) <= {world.model.version}


def test_it_is_crowded_when_much_was_published_between_two_looks() -> None:
    """Many versions of a large model; of a small one any number may wait for the look."""
    small, large = World(64), World(700_000)
    for world in (small, large):
        for _ in range(4):
            world.model.move()
            world.publish()
    assert (small.publisher.is_crowded, large.publisher.is_crowded) == (False, True)


def test_a_server_for_blobs_that_is_away_costs_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions go to the broker meanwhile; it is tried again after pauses that grow."""
    world = World(LARGE, place="127.0.0.1:1")
    tried: list[float] = []
    write = versions.write_version

    def write_version(places: Any, keys: Any, *args: Any, place: str = "", **more: Any) -> Any:
        if place:
            tried.append(world.clock.now)
            raise BrokerUnavailable("away")
        return write(places, keys, *args, place=place, **more)

    monkeypatch.setattr(versions, "write_version", write_version)
    for _ in range(40):
        world.model.move()
        world.publish()
        world.commit()
        world.clock.now += 1
    assert world.newest()[0] == 40
    pauses = np.diff(tried)
    assert list(pauses) == sorted(pauses)
    assert len(tried) == 5


def test_a_broker_that_is_away_is_the_caller_s_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said to be published that is not."""
    world = World(LARGE, codec="int8")

    def away(*_: Any, **__: Any) -> Any:
        raise BrokerUnavailable("away")

    monkeypatch.setattr(versions, "write_version", away)
    with pytest.raises(BrokerError):
        world.publish()
    assert (world.publisher.published, world.publisher.head) == (-1, None)
