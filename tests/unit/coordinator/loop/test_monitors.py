"""What watchers see: the status now and then, the feed as it comes, who leads, and why somebody gave up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.loop.monitors import Monitors
from coordinator.outgoing.cadence import Cadence
from coordinator.outgoing.lookout import Fleet
from coordinator.telemetry.feed import Feed
from coordinator.telemetry.timing import Timing
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.overview.feed import read_feed
from fl_core.errors import BrokerUnavailable, CampaignError
from tests.unit.coordinator.stand_ins import Events, FakeClock, Recorder, context


class Board:
    """Stands for the status.

    Attributes:
        written: why the coordinator gave up, by writing; empty where it did not.
    """

    def __init__(self) -> None:
        self.written: list[str] = []
        self.merges: list[Any] = []
        self.live_workers = self.claimed = 0

    def write(self, age: float, failure: str = "") -> bytes:
        self.written.append(failure)
        return b"status"

    def note_merges(self, merges: Any) -> None:
        self.merges += merges


class World:
    """Monitors of a campaign that was opened, at a broker in memory."""

    def __init__(self, bench: Callable[..., Any], **sections: Any) -> None:
        self.campaign = bench(**sections).open(4)
        self.client, self.clock = MemoryClient(MemoryServer()), FakeClock(self.campaign.milliseconds / 1000)
        self.writer, self.events, self.board, self.timing = Recorder(self.client), Events(), Board(), Timing()
        self.ctx = context(
            self.client, machine=self.clock, writer=self.writer, cadence=Cadence(status_seconds=2.0), **sections
        )
        status: Any = self.board
        transaction: Any = self.events
        self.monitors = Monitors(self.ctx, self.campaign.state, status, Feed(self.ctx.keys), self.timing, transaction)

    def feed(self) -> list[dict[str, Any]]:
        """The lines that a watcher reads after the commit."""
        for command in self.events.commands:
            self.client.execute_command(*command)
        self.events.commands.clear()
        entries = read_feed(self.client, self.ctx.keys, "0-0", 100)[0]
        return [line.to_map() for entry in entries for line in entry.lines]


def test_the_status_is_written_now_and_then_and_at_the_end(bench: Callable[..., Any]) -> None:
    """Not with each turn, of which there may be hundreds a second."""
    world = World(bench)
    for _ in range(10):
        world.monitors.tell(0.0)
        world.clock.now += 0.5
    assert len(world.board.written) == 3
    world.monitors.tell_all(0.0)
    assert len(world.board.written) == 4


@pytest.mark.parametrize(
    ("predecessor", "sequence", "event"), [("", 0, "launched"), ("", 5, "resumed"), ("other/1", 5, "took_over")]
)
def test_who_leads_is_told_once(bench: Callable[..., Any], predecessor: str, sequence: int, event: str) -> None:
    """And from whom a standby has taken over."""
    world = World(bench)
    world.campaign.state.sequence, world.writer.predecessor = sequence, predecessor
    world.monitors.tell_who_leads()
    world.monitors.tell_all(0.0)
    (line,) = [line for line in world.feed() if line["kind"] == "coordinator"]
    assert (line["event"], line["holder"], line.get("predecessor", "")) == (event, "here/1", predecessor)
    assert world.writer.predecessor == ""


def test_workers_are_told_apart_only_when_everybody_could_beat(bench: Callable[..., Any]) -> None:
    """How many live is shown at once; where they are too many to name, nobody is said to have left."""
    world = World(bench)
    world.monitors.note_fleet(Fleet(frozenset({"default"}), 1, {"pi": True}), named=False)
    assert (world.board.live_workers, world.feed()) == (1, [])
    world.monitors.note_fleet(Fleet(frozenset({"default"}), 1, {"pi": True}), named=True)
    world.monitors.note_fleet(Fleet(frozenset({"default"}), 5000, None), named=True)
    world.monitors.tell_all(0.0)
    assert [(line["kind"], line["worker"], line["event"]) for line in world.feed()] == [("worker", "pi", "joined")]


def test_where_the_time_of_an_update_went_is_counted_once(bench: Callable[..., Any]) -> None:
    """By what the device says, by the log's times, and by what merging took."""
    world = World(bench, aggregation={"buffer_size": 1})
    entry = world.campaign.update(1, seconds={"train": 0.25})
    effects = world.campaign.apply(entry)
    world.monitors.applied(entry, effects)
    world.monitors.applied_first(effects, 0.125, effects.moment_ms + 500)
    sums = world.timing.export().to_map()["sums"]
    assert (sums["train"], sums["merge"], sums["log"]) == (0.25, 0.125, 0.375)
    assert len(world.board.merges) == 1
    world.monitors.applied_first(world.campaign.apply(world.campaign.issued(1)), 0.1, 0)
    assert world.timing.num_updates == 1


def test_a_failure_is_told_whatever_comes_in_between(bench: Callable[..., Any]) -> None:
    """The error itself is raised elsewhere: what goes wrong here must not hide it."""
    world = World(bench)
    world.monitors.tell_of_failure(CampaignError("the disk is full"), 0.0)
    assert (world.board.written, len(world.writer.batches)) == (["the disk is full"], 1)
    world.writer.failures = [BrokerUnavailable("away")]
    world.monitors.tell_of_failure(CampaignError("again"), 0.0)
