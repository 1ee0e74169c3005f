"""Who is told of an entry: devices by what is closed, opened and parked; people by what they may have to act on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import structlog

from coordinator.loop.listeners import Answers, Console, parked_of
from tests.unit.coordinator.stand_ins import Events, context


def _answers(campaign: Any) -> tuple[Answers, Events, list[Any]]:
    ctx, events, lost = context(), Events(), []
    broker: Any = ctx.broker
    broker.quarantine = SimpleNamespace(park_commands=lambda parked: [parked])
    transaction: Any = events
    payloads: Any = SimpleNamespace(note_lost=lost.append)
    return Answers(ctx, campaign.state, transaction, payloads), events, lost


def test_devices_hear_what_became_of_tasks(bench: Callable[..., Any]) -> None:
    """One that ended is closed, one that is issued again is opened and rung for, and a refused update is parked."""
    campaign = bench().open(3)
    answers, events, _ = _answers(campaign)
    for entry in (campaign.update(1), campaign.reissued(2), campaign.update(3, values=np.full(64, np.nan))):
        answers.applied(entry, campaign.apply(entry))
    assert events.closed == [1, 3]
    assert [(task.number, task.attempt) for task in events.opened] == [(2, 2)]
    assert events.rung == events.opened
    (parked,) = events.commands
    assert (parked.reason, parked.task, parked.worker) == ("not_finite", 3, "worker-0")


def test_what_comes_after_the_end_is_not_parked(bench: Callable[..., Any]) -> None:
    """It was overtaken by the end, which is nobody's fault: the quarantine is for faults."""
    campaign = bench().open(2)
    late = campaign.update(1)
    campaign.apply(campaign.event("stopped", {"reason": "asked", "control": ""}))
    answers, events, _ = _answers(campaign)
    with structlog.testing.capture_logs() as told:
        effects = campaign.apply(late)
        answers.applied(late, effects)
        Console(context(), campaign.state).applied(late, effects)
    assert (events.commands, [row["log_level"] for row in told]) == ([], ["debug"])


def test_what_is_parked_is_the_entry_as_it_came(bench: Callable[..., Any]) -> None:
    """With its payload, so that an operator can take it back; of what cannot be read there is no task."""
    campaign = bench().open(1)
    good, bad = campaign.update(1, values=np.full(64, np.inf)), campaign.entry("u", b"rubbish")
    (refused,), (unreadable,) = (campaign.apply(entry).refusals for entry in (good, bad))
    assert parked_of(refused, good).payload == good.payload
    assert (parked_of(unreadable, bad).task, parked_of(unreadable, bad).header) == (None, b"rubbish")


def test_people_read_what_they_may_have_to_act_on(bench: Callable[..., Any]) -> None:
    """A training that failed, a task handed back and a refusal, each with who and why; a merge is no news."""
    campaign = bench(aggregation={"buffer_size": 1}).open(4)
    console = Console(context(), campaign.state)
    with structlog.testing.capture_logs() as told:
        for entry in (
            campaign.update(1),
            campaign.report(2),
            campaign.report(3, outcome="handed_back"),
            campaign.update(1),
        ):
            console.applied(entry, campaign.apply(entry))
    said = [(row["event"], row["log_level"]) for row in told]
    assert said == [("training failed", "warning"), ("task handed back", "info"), ("update rejected", "warning")]
    assert told[0]["detail"] == "it broke"
