"""Arrivals from devices: the part of a simulation that moves its clock.

While the coordinator waits for something to read, ``advance`` lets time pass: up to the next arrival, or up to the
moment until which it waits. One arrival at a time, so that each is answered before the next.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from coordinator.simulation.device_side import DeviceSide, Taken
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
    """Devices that are played: each waits for a task of its class, and delivers when its time has passed.

    Of the devices that wait, the one that has waited longest takes a task, as at the broker. A device that is away
    takes none; one that leaves or vanishes with a task in its hands tells nobody.

    Args:
        client, keyspace: the twin.
        side: what devices do.
        devices: all of them.
        queues: their numbers by device class, in the order in which they wait at first.
    """

    def __init__(
        self,
        client: Client,
        keyspace: Keyspace,
        side: DeviceSide,
        devices: Sequence[SimulatedDevice],
        queues: Mapping[str, Iterable[int]],
    ) -> None:
        self._client = client
        self._keyspace = keyspace
        self._side = side
        self._devices = devices
        self._waiting = {queue: deque(map(int, members)) for queue, members in queues.items()}
        self._working: list[tuple[float, int, int, Taken, str]] = []
        self._away: list[tuple[float, int, str]] = []
        self._resting: list[tuple[int, str]] = []
        self._newest = 0
        self._start_ms = keyspace.now_ms
        self._count = 0
        self._idle_waits = 0

    def advance(self, until_ms: float) -> None:
        """See ``Arrivals``.

        Raises:
            CampaignError: nothing has happened for very long, and nobody is at work.
        """
        while True:
            self._hand_out()
            next_ms = min(until_ms, self._working[0][0] if self._working else until_ms)
            if not self._away or self._away[0][0] > next_ms:
                break
            moment, index, queue = heapq.heappop(self._away)
            self._keyspace.now_ms = max(self._keyspace.now_ms, moment)
            self._waiting[queue].append(index)
        if self._working and self._working[0][0] <= until_ms:
            moment, _, index, taken, how = heapq.heappop(self._working)
            self._keyspace.now_ms = max(self._keyspace.now_ms, moment)
            self._end(index, taken, how)
            self._idle_waits = 0
            return
        self._keyspace.now_ms = until_ms
        self._idle_waits = 0 if self._working or self._away else self._idle_waits + 1
        if self._idle_waits > MAX_IDLE_WAITS:
            raise CampaignError("no simulated device is at work and no task is out; the campaign cannot go on.")

    def _hand_out(self) -> None:
        """Tasks that wait go to devices that wait."""
        self._wake()
        for queue, waiting in self._waiting.items():
            while waiting and self._client.quick("LLEN", train_queue(queue)):
                device = self._devices[waiting[0]]
                if self._side.is_done(device):
                    waiting.popleft()
                    continue
                if self._send_away(device, waiting[0]):
                    waiting.popleft()
                    continue
                if self._side.rests(device):
                    self._resting.append((waiting.popleft(), queue))
                    continue
                message = self._client.quick("RPOP", train_queue(queue))
                if (taken := self._side.take(device, read_call(message), waiting[0])) is not None:
                    self._begin(waiting.popleft(), taken)

    def _wake(self) -> None:
        """Devices that had to wait for a newer version wait for tasks again, before those that came later."""
        if not self._resting or (newest := self._side.newest()) == self._newest:
            return
        self._newest, resting = newest, self._resting
        self._resting = []
        for index, queue in reversed(resting):
            self._waiting[queue].appendleft(index)

    def _send_away(self, device: SimulatedDevice, index: int) -> bool:
        """Whether a device is away; it waits again when it has come back."""
        now = (self._keyspace.now_ms - self._start_ms) / 1000
        if device.available is None or device.available.leaves_at(now) > now:
            return False
        if (back := device.available.returns_at(now)) < math.inf:
            heapq.heappush(self._away, (self._start_ms + 1000 * max(back, now + 0.001), index, device.queue))
        return True

    def _begin(self, index: int, taken: Taken) -> None:
        device, limit = taken.device, taken.task.timeout_seconds
        now = (self._keyspace.now_ms - self._start_ms) / 1000
        seconds, how = (taken.seconds, "delivers") if taken.seconds <= limit else (limit, "is late")
        part = device.vanishes_after(f"{taken.task.task_id}#{taken.task.attempt}")
        if part is not None:
            seconds, how = seconds * part, "vanishes"
        if device.available is not None and (left := device.available.leaves_at(now) - now) < seconds:
            seconds, how = left, "vanishes"
        moment = self._keyspace.now_ms + 1000 * seconds
        self._count += 1  # of two at the same moment, the one that began first
        heapq.heappush(self._working, (moment, self._count, index, taken, how))
        if how == "delivers":
            self._side.ends_at(taken, moment)

    def _end(self, index: int, taken: Taken, how: str) -> None:
        if how == "delivers":
            self._side.deliver(taken)
        elif how == "vanishes":
            self._side.vanish(taken)
        else:
            limit = taken.task.timeout_seconds
            self._side.fail(taken, f"the training did not finish within task_timeout_seconds = {limit:g}")
        self._waiting[taken.device.queue].append(index)
