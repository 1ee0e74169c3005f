"""The look at what no entry tells: what is abandoned, what is silent, and a clock that was set."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import structlog

from coordinator.loop.surveyor import MAX_NAMED_TASKS, Surveyor
from coordinator.outgoing.dispatcher import Survey
from coordinator.outgoing.lookout import Fleet, Sightings
from coordinator.outgoing.transaction import MAX_TASKS
from tests.unit.coordinator.stand_ins import Events, FakeClock, context


class World:
    """A surveyor whose neighbours say what a test has them say.

    Attributes:
        survey: what the dispatcher finds.
        judged: at each look, whether workers were judged.
        rung: what was looked at because it is rung for again.
    """

    def __init__(self, campaign: Any, **dispatch: Any) -> None:
        self.campaign, self.clock, self.events = campaign, FakeClock(campaign.milliseconds / 1000), Events()
        self.events.sequence = campaign.state.sequence
        self.ctx = context(machine=self.clock, dispatch=dispatch)
        self.survey = Survey([], [], 0)
        self.judged: list[bool] = []
        self.rung: list[Any] = []
        lookout: Any = SimpleNamespace(
            look_at_fleet=Fleet, look_at_tasks=lambda ledger: Sightings(), ask_owners=lambda owned: {}
        )
        dispatcher: Any = SimpleNamespace(note_fleet=lambda fleet: None, survey=self._survey)
        monitors: Any = SimpleNamespace(note_fleet=lambda fleet, named: None, note_claimed=lambda count: None)
        stalls: Any = SimpleNamespace(
            look=lambda state, written: None,
            take_caught_up=lambda: True,
            look_at_rung=lambda tasks, state: self.rung.extend(tasks),
        )
        transaction: Any = self.events
        self.surveyor = Surveyor(self.ctx, campaign.state, transaction, monitors, lookout, dispatcher, stalls)

    def _survey(self, ledger: Any, seen: Any, ask: Any, *, judge_workers: bool, caught_up: bool) -> Survey:
        self.judged.append(judge_workers)
        return self.survey

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events.appended]


def test_what_is_abandoned_is_issued_again_a_part_at_a_time(bench: Callable[..., Any]) -> None:
    """Each as an event, no more of them in one transaction than the server takes in its stride; a few are named."""
    campaign = bench(dispatch={"concurrency": 2 * MAX_TASKS}).open(2 * MAX_TASKS)
    world = World(campaign)
    world.survey = Survey([(task, "gpu", "lost") for task in campaign.state.ledger.open.values()], [], 0)
    with structlog.testing.capture_logs() as told:
        world.surveyor.look()
    assert world.kinds == ["reissued"] * 2 * MAX_TASKS
    assert world.events.appended[0].to_map() == {"task": 1, "attempt": 1, "queue": "gpu", "reason": "lost"}
    assert world.events.num_commits == 1
    assert len(told) == MAX_NAMED_TASKS + 1


def test_silent_tasks_are_rung_for_again_only_while_the_campaign_runs(bench: Callable[..., Any]) -> None:
    """A paused one has tasks out as well, which nobody needs to hurry."""
    campaign = bench().open(2)
    world = World(campaign)
    world.survey = Survey([], list(campaign.state.ledger.open.values()), 0)
    world.surveyor.look()
    assert [task.number for task in world.events.rung] == [task.number for task in world.rung] == [1, 2]
    campaign.apply(campaign.event("paused", {"control": ""}))
    world.surveyor.look()
    assert len(world.events.rung) == 2


def test_nobody_is_judged_before_they_could_beat_again(bench: Callable[..., Any]) -> None:
    """After the broker was away: the lease of a worker and some seconds, by this machine's clock."""
    world = World(bench().open(1), lease_seconds=10.0)
    world.surveyor.look()
    world.surveyor.wait_for_beats()
    world.clock.now += 13
    world.surveyor.look()
    world.clock.now += 2
    world.surveyor.look()
    assert world.judged == [True, False, True]


def test_the_log_s_time_is_corrected_where_a_clock_was_set(bench: Callable[..., Any]) -> None:
    """Once; and not before what was written has been read."""
    campaign = bench().open(1)
    world = World(campaign)
    world.surveyor.look()
    assert world.kinds == []
    position = campaign.state.position
    campaign.state.position = f"{campaign.milliseconds + 3_600_000}-0"
    world.surveyor.look()
    world.surveyor.look()
    assert world.kinds == ["clock"]
    campaign.state.position = position
