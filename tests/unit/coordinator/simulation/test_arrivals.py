"""Played devices move a simulation's clock: one arrival at a time, each when its device is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.simulation import arrivals as module
from coordinator.simulation.arrivals import Played
from coordinator.simulation.devices import SimulatedDevice
from coordinator.simulation.fleet.availability import Daily
from fl_core.broker.keys import train_queue
from fl_core.broker.memory.keyspace import START_MS
from fl_core.errors import CampaignError
from fl_core.wire.messages import TaskCall
from tests.unit.coordinator.simulation.offered import Offered, device

LATE = START_MS + 1e6
TIMEOUT = 60.0


class Side:
    """What devices do, without training: a task takes a device its ``overhead_seconds``.

    Attributes:
        ended: moment in seconds, device, task, and why it failed; empty where it was delivered.
        gone: numbers of tasks that nobody waits for.
        version, until: the newest one, and the version until which a device rests, by name.
    """

    def __init__(self, offered: Offered) -> None:
        self._keyspace = offered.server.keyspace
        self.ended: list[tuple[float, str, str, str]] = []
        self.gone: set[str] = set()
        self.version, self.until = 0, dict[str, int]()

    def is_done(self, device: SimulatedDevice) -> bool:
        return False

    def rests(self, device: SimulatedDevice) -> bool:
        return self.version < self.until.get(device.name, 0)

    def newest(self) -> int:
        return self.version

    def take(self, device: SimulatedDevice, call: TaskCall, index: int) -> Any:
        number = call.task_id.partition("-")[0]
        if number in self.gone:
            return None
        task = SimpleNamespace(timeout_seconds=TIMEOUT, number=number, task_id=call.task_id, attempt=call.attempt)
        return SimpleNamespace(device=device, task=task, seconds=device.overhead_seconds)

    def ends_at(self, taken: Any, moment_ms: float) -> None:
        pass

    def deliver(self, taken: Any) -> None:
        self.fail(taken, "")

    def vanish(self, taken: Any) -> None:
        self.fail(taken, "vanished")

    def fail(self, taken: Any, why: str) -> None:
        seconds = (self._keyspace.now_ms - START_MS) / 1000
        self.ended.append((seconds, taken.device.name, taken.task.number, why))


def _played(offered: Offered, **queues: list[SimulatedDevice]) -> tuple[Played, Side]:
    side: Any = Side(offered)
    devices = [one for some in queues.values() for one in some]
    numbers = {queue: [devices.index(one) for one in some] for queue, some in queues.items()}
    return Played(offered.client, offered.server.keyspace, side, devices, numbers), side


def test_updates_arrive_in_the_order_of_their_time() -> None:
    """Of two at the same moment the one that began first; of devices that wait, the one that has waited longest."""
    offered = Offered()
    played, side = _played(offered, default=[device("slow", 3.0), device("fast", 1.0), device("same", 1.0)])
    offered.offer(1, 2, 3, 4)
    for _ in range(4):
        played.advance(LATE)
    assert side.ended == [
        (1.0, "fast", "2", ""),
        (1.0, "same", "3", ""),
        (2.0, "fast", "4", ""),
        (3.0, "slow", "1", ""),
    ]


def test_time_passes_no_further_than_the_coordinator_waits() -> None:
    """It may have something to do before the next arrival."""
    offered = Offered()
    played, side = _played(offered, default=[device("pi", 5.0)])
    offered.offer(1)
    played.advance(START_MS + 4000)
    assert (offered.server.keyspace.now_ms, side.ended) == (START_MS + 4000, [])
    played.advance(START_MS + 8000)
    assert (offered.server.keyspace.now_ms, len(side.ended)) == (START_MS + 5000, 1)


def test_a_doorbell_of_a_task_that_is_gone_costs_no_time() -> None:
    """The device takes the next one."""
    offered = Offered()
    played, side = _played(offered, default=[device("pi")])
    side.gone = {"1", "2"}
    offered.offer(1, 2, 3)
    played.advance(LATE)
    assert side.ended == [(1.0, "pi", "3", "")]
    assert offered.client.llen(train_queue("default")) == 0


def test_a_device_serves_its_class_alone() -> None:
    """A task of another class stays on its queue."""
    offered = Offered()
    played, side = _played(offered, phone=[device("pi", queue="phone")], lab=[])
    offered.offer(1, queue="lab")
    offered.offer(2, queue="phone")
    for _ in range(3):
        played.advance(LATE)
    assert side.ended == [(1.0, "pi", "2", "")]
    assert offered.client.llen(train_queue("lab")) == 1


def test_who_is_too_slow_gives_up_at_the_tasks_limit() -> None:
    """And is free for the next one."""
    offered = Offered()
    played, side = _played(offered, default=[device("pi", 500.0)])
    offered.offer(1, 2)
    played.advance(LATE)
    played.advance(LATE)
    assert [(moment, task) for moment, _, task, _ in side.ended] == [(TIMEOUT, "1"), (2 * TIMEOUT, "2")]
    assert side.ended[0][3] == "the training did not finish within task_timeout_seconds = 60"


def test_a_campaign_in_which_nothing_happens_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for ever; a long task is no such thing."""
    monkeypatch.setattr(module, "MAX_IDLE_WAITS", 3)
    offered = Offered()
    played, _ = _played(offered, default=[device("pi", 50.0)])
    offered.offer(1)
    for wait in range(9):
        played.advance(START_MS + 1000 * wait)
    played.advance(LATE)
    with pytest.raises(CampaignError, match="the campaign cannot go on"):
        for wait in range(4):
            played.advance(LATE + 1000 * wait)


def test_a_device_that_rests_leaves_its_task_to_others() -> None:
    """Until a version comes; then it is asked before those that came later."""
    offered = Offered()
    played, side = _played(offered, default=[device("first", 1.0), device("second", 2.0)])
    side.until["first"] = 2
    offered.offer(1, 2)
    for _ in range(2):
        played.advance(LATE)
    side.version = 1
    offered.offer(3, 4)
    played.advance(LATE)
    side.version = 2
    played.advance(LATE)
    assert [(name, task) for _, name, task, _ in side.ended] == [
        ("second", "1"), ("second", "2"), ("second", "3"), ("first", "4")
    ]  # fmt: skip


def test_a_device_that_is_away_takes_no_task() -> None:
    """It takes one when it is back; one that leaves with a task in its hands, or drops out, tells nobody."""
    offered = Offered()
    evening = Daily(start=100.0, length=50.0)
    played, side = _played(offered, default=[device("away", 1.0, available=evening), device("here", 30.0)])
    offered.offer(1, 2, 3)
    for _ in range(2):
        played.advance(START_MS + 99_000)
    assert side.ended == [(30.0, "here", "1", ""), (60.0, "here", "2", "")]
    offered.offer(4)
    for _ in range(2):
        played.advance(LATE)
    assert side.ended[2:] == [(90.0, "here", "3", ""), (101.0, "away", "4", "")] or side.ended[2][1] == "here"


def test_a_device_that_leaves_with_a_task_tells_nobody() -> None:
    """Its task ends when it leaves, and is not delivered; so does that of a device that drops out."""
    offered = Offered()
    played, side = _played(offered, default=[device("leaves", 10.0, available=Daily(0.0, 4.0))], lab=[])
    offered.offer(1)
    played.advance(LATE)
    assert side.ended == [(4.0, "leaves", "1", "vanished")]
    offered = Offered()
    played, side = _played(offered, default=[device("pi", 10.0, drop_out=0.5)])
    offered.offer(*range(1, 101))
    for _ in range(100):
        played.advance(LATE)
    vanished = [each for each in side.ended if each[3] == "vanished"]
    assert len(side.ended) == 100 and 30 < len(vanished) < 70
