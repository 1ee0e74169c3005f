"""What the outside wants becomes an event, once: operators, time, Ctrl-C and scores."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.loop.decisions import Decisions
from coordinator.loop.evaluation.scoring import Evaluation
from coordinator.telemetry.timing import Timing
from fl_core.broker.overview.quarantine import Parked
from fl_core.errors import CampaignError
from tests.unit.coordinator.stand_ins import Events, FakeClock, context


class Scores:
    """Stands for whoever scores versions.

    Attributes:
        asked: what was asked for.
        results: given at the next look.
    """

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.results: list[Evaluation] = []
        self.error: str | None = None
        self.died = False

    @property
    def busy(self) -> bool:
        return len(self.asked) > 0

    @property
    def has_results(self) -> bool:
        return bool(self.results)

    def request(self, head: Any = None) -> None:
        self.asked.append(head)

    def take_results(self) -> list[Evaluation]:
        results, self.results = self.results, []
        return results


class World:
    """Decisions about a campaign that was opened, over a clock that a test moves."""

    def __init__(self, bench: Callable[..., Any], *, evaluated: bool = False, **sections: Any) -> None:
        if evaluated:
            sections["evaluation"] = {"data": "a:b", **sections.get("evaluation", {})}
        self.campaign = bench(**sections).open(4)
        self.clock = FakeClock(self.campaign.milliseconds / 1000)
        self.ctx = context(machine=self.clock, **sections)
        self.events, self.scores = Events(), Scores()
        evaluator = self.scores if evaluated else None
        transaction: Any = self.events
        self.decisions = Decisions(self.ctx, self.campaign.state, transaction, evaluator, Timing())

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events.appended]


# -- operators -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("request_", "kind"), [("pause", "paused"), ("resume", "resumed"), ("stop", "stopped")])
def test_a_request_becomes_an_event_that_names_it(bench: Callable[..., Any], request_: str, kind: str) -> None:
    """By its position: after a crash it is not taken again."""
    world = World(bench)
    world.decisions.take_request("5-0", {b"request": request_.encode()})
    (event,) = world.events.appended
    assert (event.kind, event.to_map()["control"]) == (kind, "5-0")


def test_an_unknown_request_is_no_event(bench: Callable[..., Any]) -> None:
    """Anybody who reaches the broker can write there: it is said in the log, shortened."""
    world = World(bench)
    world.decisions.take_request("5-0", {b"request": b"x" * 5000})
    world.decisions.take_request("6-0", {})
    assert world.kinds == []


def test_what_is_parked_comes_back_whole_and_what_is_gone_is_answered_all_the_same(bench: Callable[..., Any]) -> None:
    """The answer for what cannot come back names no task, so that the request is not taken again after a crash."""
    world = World(bench)
    parked = Parked("too_stale", "", "w", 3, b"header", b"payload", 7, 0)
    broker: Any = world.ctx.broker
    broker.quarantine = SimpleNamespace(
        find=lambda position: parked if position == "1-1" else None,
        unpark_commands=lambda position: [["XDEL", position]],
    )
    for argument in (b"1-1", b"9-9"):
        world.decisions.take_request("5-0", {b"request": b"readmit", b"argument": argument})
    back, gone = (event.to_map() for event in world.events.appended)
    assert (back["task"], back["header"], back["payload"]) == (3, b"header", b"payload")
    assert (gone["task"], gone["payload"], gone["control"]) == (0, b"", "5-0")
    assert world.events.commands == [["XDEL", "1-1"]]


# -- time and Ctrl-C -----------------------------------------------------------------------------------------------


def test_the_time_of_a_campaign_ends_it_once(bench: Callable[..., Any]) -> None:
    """Campaign time, counted from the opening; asked again only where the answer did not reach the log."""
    world = World(bench, stop={"seconds": 60})
    world.decisions.take()
    world.clock.now += 61
    world.decisions.take()
    world.decisions.take()
    assert world.kinds == ["stopped"]
    assert world.decisions.stop_asked
    world.decisions.forget()
    world.decisions.take()
    assert world.kinds == ["stopped", "stopped"]


def test_ctrl_c_interrupts_rather_than_stops(bench: Callable[..., Any]) -> None:
    """Also where the time has come as well."""
    world = World(bench, stop={"seconds": 60})
    world.clock.now += 61
    world.decisions.interrupted.set()
    world.decisions.take()
    assert world.kinds == ["interrupted"]


def test_a_buffer_that_waits_is_merged_after_its_time(bench: Callable[..., Any]) -> None:
    """Once for each version; the loop waits no longer than until then."""
    world = World(bench, aggregation={"buffer_size": 4, "max_wait_seconds": 10})
    assert world.decisions.may_wait_ms(100_000) == 100_000, "nothing waits"
    world.campaign.apply(world.campaign.update(1))
    world.clock.now = world.campaign.milliseconds / 1000 + 4
    assert world.decisions.may_wait_ms(100_000) == 6000
    world.decisions.take()
    assert world.kinds == []
    world.clock.now += 6
    world.decisions.take()
    world.decisions.take()
    assert world.kinds == ["merge_due"]


# -- scores --------------------------------------------------------------------------------------------------------


def test_scores_become_events(bench: Callable[..., Any]) -> None:
    """With the metrics as they came; the loop does not wait while some are there."""
    world = World(bench, evaluated=True)
    world.scores.results.append(Evaluation(3, 0.5, {"accuracy": 0.75}, 100))
    assert world.decisions.may_wait_ms(100) == 0
    world.decisions.take()
    (event,) = world.events.appended
    assert (event.kind, event.to_map()["version"], event.to_map()["metrics"]) == ("evaluated", 3, {"accuracy": 0.75})


def test_a_version_is_scored_when_it_is_time_and_nobody_is_busy(bench: Callable[..., Any]) -> None:
    """The first one at once, then every so many versions."""
    world = World(bench, evaluated=True, evaluation={"every_versions": 5})
    asked = []
    for published in (0, 3, 5, 9, 10):
        world.decisions.ask_for_evaluation(published)
        asked.append(len(world.scores.asked))
        world.scores.asked.clear()
    assert asked == [1, 0, 1, 0, 1]
    world.scores.asked.append(None)
    world.decisions.ask_for_evaluation(100)
    assert len(world.scores.asked) == 1, "it is busy"


def test_where_a_target_may_end_the_campaign_the_log_says_first_what_is_scored(bench: Callable[..., Any]) -> None:
    """The event comes first; the evaluator is asked for that version when it has been read."""
    world = World(bench, evaluated=True, stop={"accuracy": 0.9})
    world.decisions.ask_for_evaluation(0)
    world.decisions.ask_for_evaluation(0)
    assert (world.kinds, world.scores.asked) == (["evaluating"], [])
    head: Any = object()
    world.decisions.evaluate_pinned(0, head)
    assert world.scores.asked == [head]


def test_code_that_raises_ends_the_campaign_and_a_process_that_dies_only_where_scores_decide(
    bench: Callable[..., Any],
) -> None:
    """The former has to be mended; without a target a campaign goes on without evaluations, and says so once."""
    raised = World(bench, evaluated=True)
    raised.scores.error = "evaluation.data raised ValueError."
    with pytest.raises(CampaignError, match="raised ValueError"):
        raised.decisions.take()
    decided = World(bench, evaluated=True, stop={"accuracy": 0.9})
    decided.scores.error, decided.scores.died = "it died.", True
    with pytest.raises(CampaignError, match=r"it died\. stop.accuracy needs evaluations"):
        decided.decisions.take()
    goes_on = World(bench, evaluated=True)
    goes_on.scores.error, goes_on.scores.died = "it died.", True
    goes_on.decisions.take()
    goes_on.decisions.ask_for_evaluation(100)
    assert (goes_on.kinds, goes_on.scores.asked) == ([], [])
