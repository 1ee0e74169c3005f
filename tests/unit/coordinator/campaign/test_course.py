"""A campaign's phases, and what ends it: whatever waits then is merged or dropped, and never both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coordinator.campaign.course import Phase

THREE = {"aggregation": {"buffer_size": 3, "staleness": "constant"}}


def _ends(campaign: Any) -> list[tuple[str, str]]:
    return [(line["state"], line["reason"]) for line in campaign.history if line["kind"] == "end"]


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        (["paused"], Phase.PAUSED),
        (["paused", "paused"], Phase.PAUSED),
        (["paused", "resumed"], Phase.RUNNING),
        (["resumed"], Phase.RUNNING),
        (["interrupted", "resumed"], Phase.RUNNING),
        (["interrupted", "paused"], Phase.INTERRUPTED),
        (["stopped", "resumed"], Phase.STOPPED),
        (["stopped", "interrupted"], Phase.STOPPED),
    ],
)
def test_phases_follow_each_other(bench: Callable[..., Any], events: list[str], phase: Phase) -> None:
    """After the end there is nothing; an interrupted campaign can be resumed."""
    campaign = bench(**THREE).open(2)
    for kind in events:
        body = {"control": "", **({"reason": "asked"} if kind == "stopped" else {})}
        campaign.apply(campaign.event(kind, body))
    assert campaign.state.phase is phase
    assert campaign.state.accepts == (phase in (Phase.RUNNING, Phase.PAUSED))


@pytest.mark.parametrize(("stop", "reason"), [({"updates": 2}, "updates"), ({"versions": 1}, "versions")])
def test_a_limit_ends_it_with_exactly_that_many(bench: Callable[..., Any], stop: dict[str, int], reason: str) -> None:
    """What waits in the buffer counts, and is merged: no update is asked for that is then dropped."""
    campaign = bench(stop=stop, **THREE).open(4)
    campaign.apply(*(campaign.update(number) for number in range(1, 5)))
    assert _ends(campaign) == [("finished", reason)]
    assert campaign.state.ledger.merged == (2 if reason == "updates" else 3)
    assert campaign.state.ledger.out == 0


def test_an_interruption_keeps_the_buffer_and_the_end_merges_it(bench: Callable[..., Any]) -> None:
    """Open tasks are cancelled in both."""
    kept, ended = bench(**THREE).open(3), bench(**THREE).open(3)
    for campaign, event in (
        (kept, kept.event("interrupted", {"control": ""})),
        (ended, ended.event("stopped", {"reason": "asked", "control": ""})),
    ):
        campaign.apply(campaign.update(1))
        effects = campaign.apply(event)
        assert sorted(effects.closed) == [2, 3]
    assert (kept.state.ledger.merged, kept.state.ledger.buffered) == (0, [1])
    assert (ended.state.ledger.merged, ended.state.ledger.buffered) == (1, [])


def test_a_wait_that_is_over_merges_what_there_is_once(bench: Callable[..., Any]) -> None:
    """The version that it was decided for must still be the newest: a merge may have come first."""
    campaign = bench(aggregation={"buffer_size": 3, "max_wait_seconds": 5}).open(6)
    campaign.apply(campaign.update(1), campaign.event("merge_due", {"version": 0}))
    campaign.apply(campaign.update(2), campaign.event("merge_due", {"version": 0}))
    assert (campaign.state.strategy.version, campaign.state.ledger.buffered) == (1, [2])


def test_a_cohort_closes_when_its_last_task_ends_however_that_is(bench: Callable[..., Any]) -> None:
    """Merged, failed or expired: the barrier waits for nobody who will not come."""
    campaign = bench(aggregation={"strategy": "fedavg", "buffer_size": 3}, dispatch={"max_attempts": 1}).open(3)
    campaign.apply(campaign.update(1), campaign.report(2))
    assert campaign.state.strategy.version == 0
    campaign.apply(campaign.reissued(3))
    assert (campaign.state.strategy.version, campaign.state.ledger.merged) == (1, 1)
