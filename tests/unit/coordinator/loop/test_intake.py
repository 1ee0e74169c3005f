"""Entries are applied in their order, each once, and everybody who listens is told in theirs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from coordinator.loop.intake import Intake
from coordinator.outgoing.cadence import Cadence
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from tests.unit.coordinator.stand_ins import context


class Listening:
    """Writes down what it is told, under its name."""

    def __init__(self, name: str, told: list[Any]) -> None:
        self._name, self._told = name, told

    def applied(self, entry: Any, effects: Any) -> None:
        self._told.append((self._name, entry.position))

    def applied_first(self, effects: Any, seconds: float, now_ms: int) -> None:
        self._told.append((self._name, effects.moment_ms))


class World:
    """A campaign whose log lies at a broker in memory."""

    def __init__(self, bench: Callable[..., Any]) -> None:
        self.campaign, self.client = bench(), MemoryClient(MemoryServer(1_000_000.0))
        self.told: list[Any] = []
        ctx = context(self.client, cadence=Cadence(read_entries=4))
        listeners = [Listening("first", self.told), Listening("second", self.told)]
        payloads: Any = SimpleNamespace(expect=lambda *names: None)
        outages: Any = SimpleNamespace(through=lambda action: action())
        self.state = self.campaign.new_state()
        timers: Any = [Listening("timer", self.told)]
        self.intake = Intake(ctx, self.state, payloads, outages, listeners, timers)
        self.key = ctx.keys.log

    def write(self, *entries: Any) -> None:
        beside = {"u": "p", "e": "m"}
        for entry in entries:
            words = [entry.kind, entry.header, beside[entry.kind], entry.payload]
            self.client.execute_command("XADD", self.key, entry.position, *words)


def test_entries_are_applied_in_order_and_everybody_is_told(bench: Callable[..., Any]) -> None:
    """A listener after the other, then whoever accounts for the time."""
    world = World(bench)
    opened, issued = world.campaign.event("opened", {"spec": "x", "layout": "y"}), world.campaign.issued(2)
    world.write(opened, issued)
    entries, requests = world.intake.read(wait_ms=0)
    assert ([entry.position for entry in entries], requests) == ([opened.position, issued.position], [])
    assert world.intake.at_end
    for number, effects in enumerate(world.intake.take(entries)):
        assert effects.moment_ms == entries[number].milliseconds
    assert world.told[:3] == [
        ("first", opened.position), ("second", opened.position), ("timer", opened.milliseconds),
    ]  # fmt: skip
    assert (world.state.position, world.state.ledger.issued) == (issued.position, 2)


def test_a_replay_goes_on_behind_the_state_and_accounts_for_no_time(bench: Callable[..., Any]) -> None:
    """Page by page to the log's end; what was timed once is not timed again."""
    world = World(bench)
    opened = world.campaign.event("opened", {"spec": "x", "layout": "y"})
    world.write(opened, *(world.campaign.issued(1) for _ in range(8)))
    assert world.intake.replay() == 9
    assert world.state.ledger.issued == 8
    assert {name for name, _ in world.told} == {"first", "second"}
    assert world.intake.replay() == 0
