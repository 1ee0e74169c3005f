"""Which queues are served, and by how many: counted, however large the fleet is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from coordinator.campaign.ledger import Ledger
from coordinator.outgoing.lookout import Lookout
from fl_core.broker import keys
from fl_core.broker.overview.roster import Roster
from fl_core.clock import MACHINE
from tests.unit.coordinator.stand_ins import context

Register = Callable[..., None]


@pytest.fixture
def register(client: redis.Redis) -> Register:
    """Makes workers live ones of some queues."""

    def register(names: list[str], *queues: str, due_in_seconds: float = 10.0) -> None:
        due_ms = (client.time()[0] + due_in_seconds) * 1000
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.hset(keys.device(name), "row", f"{due_ms:.0f}|0a|")
        for queue in queues:
            pipeline.zadd(keys.live(queue), dict.fromkeys((f"{name} 0a" for name in names), due_ms))
        pipeline.execute()

    return register


def _lookout(client: Any, *queues: str) -> Lookout:
    ctx = context(client, machine=MACHINE, dispatch={"queues": list(queues), "concurrency": 4})
    return Lookout(ctx, Roster(client))


def test_a_rare_class_is_found_in_a_large_fleet(client: redis.Redis, register: Register) -> None:
    """Three workers of a class beside eight thousand others: it is served, and all are counted once."""
    register([f"w{n}" for n in range(8_000)], "default", due_in_seconds=20.0)
    register(["g1", "g2", "g3"], "gpu", due_in_seconds=-1.0)
    lookout = _lookout(client, "default", "gpu")
    for _ in range(5):
        fleet = lookout.look_at_fleet()
        assert (fleet.num_live, fleet.served, fleet.present) == (8_003, {"default", "gpu"}, None)


def test_a_class_whose_only_worker_fell_silent_is_not_served(client: redis.Redis, register: Register) -> None:
    """It is named all the same, as one that does not live."""
    register(["w"], "default")
    register(["g"], "gpu", due_in_seconds=-60.0)
    fleet = _lookout(client, "default", "gpu").look_at_fleet()
    assert (fleet.num_live, fleet.served, fleet.present) == (1, {"default"}, {"w": True, "g": False})


@pytest.mark.parametrize("num_workers", [3, 3_000])
def test_a_worker_of_two_queues_counts_once(client: redis.Redis, register: Register, num_workers: int) -> None:
    """How many live is how many there are, in a small and in a large fleet."""
    register([f"w{n}" for n in range(num_workers)], "default", "gpu")
    register(["g"], "gpu")
    assert _lookout(client, "default", "gpu").look_at_fleet().num_live == num_workers + 1


def test_tasks_are_seen_with_their_queues(client: redis.Redis) -> None:
    """Of a task that nobody has claimed there is no owner; the queues of open tasks have a depth."""
    client.lpush(keys.train_queue("gpu"), b"message")
    ledger = Ledger()
    ledger.issue(["gpu", "default"], 0)
    seen = _lookout(client, "default", "gpu").look_at_tasks(ledger)
    assert (seen.owners, seen.beats, seen.depths) == ({}, {}, {"gpu": 1, "default": 0})
