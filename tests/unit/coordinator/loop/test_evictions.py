"""A server that drops keys when it is full is named once, and blamed where something is missing."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from coordinator.loop import evictions as evictions_module
from coordinator.loop.evictions import LOOK_SECONDS, WORD_SECONDS, Evictions
from fl_core.broker.server.capacity import Evicting
from tests.unit.coordinator.stand_ins import FakeClock


class World:
    """A server whose policy and count a test sets; None for noeviction."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: Evicting | None = None
        self.looks = 0
        self.clock = FakeClock()
        monkeypatch.setattr(evictions_module, "evicting", self._look)
        client: Any = None
        self.evictions = Evictions(client, self.clock)

    def _look(self, client: Any) -> Evicting | None:
        self.looks += 1
        return self.seen

    def evicts(self, count: int) -> None:
        self.seen = Evicting("allkeys-lru", "it drops what it has not used for long", count)

    def look(self, seconds: float = LOOK_SECONDS) -> list[str]:
        self.clock.now += seconds
        with structlog.testing.capture_logs() as told:
            self.evictions.look()
        return [row["event"] for row in told]


def test_it_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each second: the answer is long, and a policy seldom changes."""
    world = World(monkeypatch)
    for _ in range(30):
        world.look(1.0)
    assert world.looks == 3


def test_a_policy_is_named_once_and_each_loss_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """And that it is mended."""
    world = World(monkeypatch)
    assert world.look() == []
    world.evicts(0)
    assert world.look() == ["the broker evicts keys when it is full"]
    assert world.look() == []
    world.evicts(5)
    assert world.look() == ["the broker has evicted keys"]
    world.evicts(9)
    assert world.look() == [], "a moment after the last word"
    world.evicts(12)
    assert world.look(WORD_SECONDS) == ["the broker has evicted keys"]
    world.seen = None
    assert world.look() == ["the broker evicts no keys any more"]


def test_it_is_blamed_only_where_it_has_dropped_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the end of a sentence that says what is missing."""
    world = World(monkeypatch)
    assert world.evictions.blame() == ""
    world.evicts(0)
    assert world.evictions.blame() == ""
    world.evicts(3)
    assert world.evictions.blame() == "; it has evicted 3 keys under maxmemory-policy allkeys-lru: set noeviction"
