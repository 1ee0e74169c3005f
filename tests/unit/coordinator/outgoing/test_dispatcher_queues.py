"""Which queues are served, and by how many: counted, however large the fleet is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from coordinator.campaign.ledger import Ledger
from coordinator.outgoing.dispatcher import Dispatcher
from fl_core.broker import keys
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.overview.roster import Roster
from fl_core.spec import DispatchSection

Register = Callable[..., None]


@pytest.fixture
def register(client: redis.Redis) -> Register:
    """Makes workers live ones of some queues."""

    def register(names: list[str], *queues: str, due_in_seconds: float = 10.0) -> None:
        due_ms = (client.time()[0] + due_in_seconds) * 1000
        for queue in queues:
            client.zadd(keys.live(queue), dict.fromkeys(names, due_ms))

    return register


def _dispatcher(client: redis.Redis, *queues: str) -> Dispatcher:
    settings = DispatchSection(queues=queues, concurrency=4)
    return Dispatcher(CampaignBroker(client, "c"), Roster(client), "c", settings, str)


def test_a_rare_class_is_found_in_a_large_fleet(client: redis.Redis, register: Register) -> None:
    """Three workers of a class beside eight thousand others keep their tasks: nobody is given up as having none."""
    register([f"w{n}" for n in range(8_000)], "default", due_in_seconds=20.0)
    register(["g1", "g2", "g3"], "gpu", due_in_seconds=-1.0)
    dispatcher, ledger = _dispatcher(client, "default", "gpu"), Ledger()
    now_ms = client.time()[0] * 1000
    ledger.issue(["gpu", "default"], now_ms - 30_000)
    for _ in range(5):
        assert dispatcher.look_at_queues() == 8_003
        assert (
            dispatcher.survey(ledger, now_ms=now_ms, server_ms=now_ms, judge_workers=True, caught_up=True).abandoned
            == []
        )
    assert set(dispatcher.plan(ledger, pending=0, barrier=False)) == {"default", "gpu"}


def test_a_class_that_nobody_serves_gives_its_tasks_away(client: redis.Redis, register: Register) -> None:
    """Unless the broker was away just now, when everybody looks dead."""
    register(["w"], "default")
    register(["g"], "gpu", due_in_seconds=-60.0)
    dispatcher, ledger = _dispatcher(client, "default", "gpu"), Ledger()
    now_ms = client.time()[0] * 1000
    (task,) = ledger.issue(["gpu"], now_ms - 30_000)
    assert dispatcher.look_at_queues() == 1
    assert dispatcher.present == {"w": True, "g": False}
    assert (
        dispatcher.survey(ledger, now_ms=now_ms, server_ms=now_ms, judge_workers=False, caught_up=True).abandoned == []
    )
    assert dispatcher.survey(ledger, now_ms=now_ms, server_ms=now_ms, judge_workers=True, caught_up=True).abandoned == [
        (task, "default", "no_worker")
    ]


@pytest.mark.parametrize("num_workers", [3, 3_000])
def test_a_worker_of_two_queues_counts_once(client: redis.Redis, register: Register, num_workers: int) -> None:
    """How many live is how many there are, in a small and in a large fleet."""
    register([f"w{n}" for n in range(num_workers)], "default", "gpu")
    register(["g"], "gpu")
    assert _dispatcher(client, "default", "gpu").look_at_queues() == num_workers + 1
