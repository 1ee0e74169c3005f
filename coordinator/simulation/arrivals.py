"""Arrivals from devices: the part of a simulation that moves its clock.

While the coordinator waits for something to read, ``advance`` lets time pass: up to the next arrival, or up to the
moment until which it waits. One arrival at a time, so that each is answered before the next.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from coordinator.simulation.device_side import DeviceSide, Trained
from coordinator.simulation.devices import SimulatedDevice
from fl_core.broker.connection import Client
from fl_core.broker.doorbell.message import read_call
from fl_core.broker.keys import train_queue
from fl_core.broker.memory.keyspace import Keyspace
from fl_core.errors import CampaignError

# So many waits in a row in which nothing happened are the end: nothing will.
MAX_IDLE_WAITS = 10_000


class Arrivals(Protocol):
    """The side that plays the devices."""

    def advance(self, until_ms: float) -> None:
        """Let time pass until something arrives, or at most until then."""
        ...


class Played:
    """Devices that are played: each waits for a task of its class, trains it, and delivers when its time has passed.

    Of the devices that wait, the one that has waited longest takes a task, as at the broker.

    Args:
        client, keyspace: the twin.
        side: what devices do.
        devices: all of them, by device class.
    """

    def __init__(
        self, client: Client, keyspace: Keyspace, side: DeviceSide, devices: Mapping[str, Sequence[SimulatedDevice]]
    ) -> None:
        self._client = client
        self._keyspace = keyspace
        self._side = side
        self._waiting = {queue: deque(each) for queue, each in devices.items()}
        self._working: list[tuple[float, int, Trained, bool]] = []
        self._count = 0
        self._idle_waits = 0

    def advance(self, until_ms: float) -> None:
        """See ``Arrivals``.

        Raises:
            CampaignError: nothing has happened for very long, and nobody is at work.
        """
        self._hand_out()
        if self._working and self._working[0][0] <= until_ms:
            moment, _, trained, in_time = heapq.heappop(self._working)
            self._keyspace.now_ms = max(self._keyspace.now_ms, moment)
            self._end(trained, in_time=in_time)
            self._idle_waits = 0
            return
        self._keyspace.now_ms = until_ms
        self._idle_waits = 0 if self._working else self._idle_waits + 1
        if self._idle_waits > MAX_IDLE_WAITS:
            raise CampaignError("no simulated device is at work and no task is out; the campaign cannot go on.")

    def _hand_out(self) -> None:
        """Tasks that wait go to devices that wait."""
        for queue, waiting in self._waiting.items():
            while waiting:
                message = self._client.quick("RPOP", train_queue(queue))
                if message is None:
                    break
                if (trained := self._side.train(waiting[0], read_call(message))) is not None:
                    waiting.popleft()
                    self._begin(trained)

    def _begin(self, trained: Trained) -> None:
        limit = trained.task.timeout_seconds
        in_time = trained.seconds <= limit
        moment = self._keyspace.now_ms + 1000 * min(trained.seconds, limit)
        self._count += 1  # of two at the same moment, the one that began first
        heapq.heappush(self._working, (moment, self._count, trained, in_time))

    def _end(self, trained: Trained, *, in_time: bool) -> None:
        if in_time:
            self._side.deliver(trained)
        else:
            limit = trained.task.timeout_seconds
            self._side.fail(trained, f"the training did not finish within task_timeout_seconds = {limit:g}")
        self._waiting[trained.device.queue].append(trained.device)
