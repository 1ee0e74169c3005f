"""What a part of the coordinator needs to be tested by itself: a clock that nobody waits for, a campaign, a commit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from coordinator.campaign.identity import Identity
from coordinator.outgoing.cadence import Cadence
from coordinator.outgoing.context import Context
from fl_core.broker.campaign import CampaignBroker
from fl_core.broker.clock import CampaignClock
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Command
from fl_core.clock import Clock
from fl_core.spec import parse_spec
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec
from fl_core.wire.events import Event, Issued

IDENTITY = Identity("digits-1", b"s" * 32, "incarnation", 0)
LAYOUT = Layout((TensorSpec("weight", (64,)),))


class FakeClock(Clock):
    """Time passes only where somebody waits for it, or a test says so.

    Attributes:
        now: seconds.
        waits: how long each waiting was to be.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall_ms(self) -> int:
        return round(self.now * 1000)

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        self.waits.append(seconds)
        if until is not None and until.is_set():
            return True
        self.now += seconds
        return False


class FakeBroker:
    """A server without data whose clock is the machine's."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self.keys = CampaignKeys(IDENTITY.campaign)

    def clock_ms(self) -> float:
        return self._machine.monotonic() * 1000


def context(
    client: Any = None,
    *,
    machine: Clock | None = None,
    cadence: Cadence | None = None,
    writer: Recorder | None = None,
    **sections: Any,
) -> Context:
    """A campaign on a server, or with a broker that is only good for its clock."""
    machine = machine or FakeClock()
    broker: Any = FakeBroker(machine) if client is None else CampaignBroker(client, IDENTITY.campaign)
    clock = CampaignClock(FakeBroker(machine), machine)  # type: ignore[arg-type]
    clock.begin(0, 0)
    lease: Any = writer or Recorder(client)
    spec = parse_spec({"model": {"factory": "a:b"}, **sections})
    return Context(IDENTITY, spec, LAYOUT, client, broker, clock, lease, cadence or Cadence())


class Recorder:
    """A writer that runs each commit's commands at once, one after the other, or fails when it is told to.

    Args:
        client: where they run; None for nowhere.
    """

    def __init__(self, client: Any = None) -> None:
        self._client = client
        self.token, self.fence, self.predecessor = "here/1", 1, ""
        self.batches: list[list[Any]] = []
        self.failures: list[Exception | None] = []
        self.commits = 0

    def commit(self, incarnation: str, commands: Sequence[Command], *, again: bool = False) -> None:
        if self.failures and (failure := self.failures.pop()) is not None:
            raise failure
        self.commits += 1
        self.batches.append([list(command) for command in commands])
        for command in commands if self._client is not None else ():
            self._client.execute_command(*command)

    num_waiting = 0

    def take_in(self, then: Sequence[Any]) -> Any:
        """As the writer does where the inbox is empty."""
        return self._client.quick(*then)


def sent(client: Any, keys: CampaignKeys) -> list[tuple[str, bytes, bytes]]:
    """What devices have put into a campaign's inbox: kind, header and payload."""
    found = []
    for entry in client.lrange(keys.inbox, 0, -1):
        length, _, rest = entry[1:].partition(b":")
        found.append((chr(entry[0]), rest[: int(length)], rest[int(length) :]))
    return found


class Events:
    """Stands for the transaction where only the events matter.

    Attributes:
        appended: all of them.
        commands: what else was added.
        closed, opened, rung: tasks.
    """

    def __init__(self) -> None:
        self.appended: list[Event] = []
        self.commands: list[Any] = []
        self.closed: list[int] = []
        self.opened: list[Any] = []
        self.rung: list[Any] = []
        self.sequence = self.issued = 0
        self.num_commits = 0
        self.is_empty = True

    def append(self, event: Event) -> None:
        self.sequence += 1
        self.appended.append(event)

    def add(self, commands: Any) -> None:
        self.commands += commands

    def add_in_front(self, commands: Any) -> None:
        self.commands[:0] = commands

    def close(self, numbers: Any) -> None:
        self.closed += numbers

    def open(self, tasks: Any) -> None:
        self.opened += tasks

    def ring(self, tasks: Any) -> None:
        self.rung += tasks

    def issue(self, queues: Sequence[str]) -> None:
        self.issued += len(queues)
        self.append(Issued(queues=tuple(queues)))

    def commit(self) -> None:
        self.num_commits += 1
