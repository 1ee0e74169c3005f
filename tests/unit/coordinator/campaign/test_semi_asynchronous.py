"""Decisions of the coordinator in the log beside updates: merges that are due, plateaus, and what devices report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from coordinator.campaign.course import Phase

NUM_ELEMENTS = 64
FOUR = {"aggregation": {"buffer_size": 4, "staleness": "constant", "max_wait_seconds": 5.0}}


def _due(campaign: Any, version: int) -> Any:
    return campaign.apply(campaign.event("merge_due", {"version": version}))


def _evaluate(campaign: Any, loss: float) -> None:
    body = {"version": 0, "loss": loss, "accuracy": None, "num_examples": 10}
    campaign.apply(campaign.event("evaluated", body))


def test_what_waits_is_merged_when_it_is_due(bench: Callable[..., Any]) -> None:
    """Three of four updates make a version, at three quarters of a full buffer's step, and the ledger says so."""
    campaign = bench(**FOUR).open(6)
    campaign.apply(*(campaign.update(n, values=np.full(NUM_ELEMENTS, 4.0)) for n in (1, 2, 3)))
    effects = _due(campaign, 0)
    assert [(merge.version, merge.num_updates) for merge in effects.merges] == [(1, 3)]
    assert campaign.values == [3.0] * NUM_ELEMENTS
    assert (campaign.state.ledger.merged, campaign.state.ledger.buffered) == (3, [])
    assert campaign.history[-1]["tasks"] == [1, 2, 3]


def test_a_merge_that_came_first_makes_it_void(bench: Callable[..., Any]) -> None:
    """The decision was about version 0; the buffer has filled meanwhile, and what waits now waits its own time."""
    campaign = bench(**FOUR).open(6)
    campaign.apply(*(campaign.update(n) for n in (1, 2, 3, 4, 5)))
    assert campaign.state.strategy.version == 1
    assert _due(campaign, 0).merges == []
    assert campaign.state.strategy.buffer_count == 1
    assert len(_due(campaign, 1).merges) == 1


def test_nothing_is_due_where_nothing_waits(bench: Callable[..., Any]) -> None:
    """An empty buffer, a barrier, a campaign that has ended: no version."""
    campaign = bench(**FOUR).open(6)
    assert _due(campaign, 0).merges == []
    cohort = bench(aggregation={"strategy": "fedavg"}).open(3)
    cohort.apply(cohort.update(1))
    assert _due(cohort, 0).merges == []
    campaign.apply(campaign.event("stopped", {"reason": "asked"}))
    assert _due(campaign, 0).merges == []


def test_a_due_merge_counts_for_the_end(bench: Callable[..., Any]) -> None:
    """stop.versions is met by it."""
    campaign = bench(**FOUR, stop={"versions": 1}).open(6)
    campaign.apply(campaign.update(1))
    _due(campaign, 0)
    assert (campaign.state.phase, campaign.state.stop_reason) == (Phase.FINISHED, "versions")


def test_plateaus_are_counted(bench: Callable[..., Any]) -> None:
    """Three evaluations in a row without a new best loss are one; a new best begins the count anew; NaN is no best."""
    campaign = bench(
        training={"schedule": "plateau", "schedule_period": 3}, evaluation={"data": "fl_core.data:digits"}
    ).open(1)
    counts = []
    for loss in (1.0, 1.0, 1.1, 0.9, 0.95, 0.95, float("nan"), 0.9, 0.91, 0.92):
        _evaluate(campaign, loss)
        counts.append(campaign.state.evaluations.num_plateaus)
    assert counts == [0, 0, 0, 0, 0, 0, 1, 1, 1, 2]
