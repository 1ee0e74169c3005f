"""What proves that a server is older than this coordinator's memory, and what is no proof."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from coordinator.campaign.ledger import Ledger
from coordinator.outgoing.stalls import MANY_RINGS, WORD_SECONDS, Stalls
from fl_core.broker.lease import LostData
from tests.unit.coordinator.stand_ins import FakeClock, context


class World:
    """A log whose entries a test may take away.

    Attributes:
        log: positions that are still there.
        claimable: the rows of tasks that are rung again are there.
    """

    def __init__(self) -> None:
        self.log = {"1-0", "2-0", "3-0"}
        self.claimable = True
        self.clock = FakeClock()
        self.state: Any = SimpleNamespace(position="0-0", sequence=0, ledger=Ledger())
        ctx = context(machine=self.clock)
        broker: Any = ctx.broker
        broker.has_entry = self.log.__contains__
        broker.can_be_claimed = lambda rows: self.claimable
        self.stalls = Stalls(ctx, "0-0")

    def look(self, position: str, *, sequence: int = 0, written: int = 0) -> None:
        self.state.position, self.state.sequence = position, sequence
        self.stalls.look(self.state, written)


def test_an_entry_that_was_read_and_is_gone_is_a_loss() -> None:
    """Also where others have come since: the position of the last look is looked for too."""
    world = World()
    world.look("1-0")
    world.look("2-0")
    world.log -= {"2-0"}
    with pytest.raises(LostData):
        world.look("3-0")


def test_what_was_trimmed_is_no_loss() -> None:
    """By this coordinator, because checkpoints cover it."""
    world = World()
    world.look("2-0")
    world.log -= {"1-0", "2-0"}
    world.stalls.trimmed = "2-0"
    world.look("2-0")
    world.look("3-0")


def test_events_that_were_written_and_never_come_are_a_loss() -> None:
    """Once the log was read to its end; until then they may be on their way."""
    world = World()
    world.look("1-0", sequence=3, written=5)
    world.look("1-0", sequence=3, written=5)
    world.stalls.caught_up = True
    with pytest.raises(LostData, match="lost events"):
        world.look("1-0", sequence=3, written=5)


def test_after_a_restoration_it_begins_again() -> None:
    """Neither what was there before nor what was written before counts."""
    world = World()
    world.look("3-0", sequence=3, written=5)
    world.log.clear()
    world.stalls.caught_up = True
    world.stalls.forget("3-0")
    world.look("3-0", sequence=3, written=3)
    assert not world.stalls.take_caught_up()


def test_tasks_whose_rows_are_gone_are_a_loss_and_those_that_somebody_swallows_are_named() -> None:
    """The latter once in a while: something takes their messages and drops them."""
    world = World()
    tasks = world.state.ledger.issue(["gpu"] * 2, 0)
    with structlog.testing.capture_logs() as told:
        for _ in range(MANY_RINGS + 3):
            world.stalls.look_at_rung(tasks, world.state)
        world.clock.now += WORD_SECONDS
        world.stalls.look_at_rung(tasks, world.state)
    assert [(row["tasks"], row["queues"]) for row in told] == [(2, ["gpu"])] * 2
    world.claimable = False
    with pytest.raises(LostData, match="rows of open tasks"):
        world.stalls.look_at_rung(tasks, world.state)
