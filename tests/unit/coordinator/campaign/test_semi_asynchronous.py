"""Decisions of the coordinator in the log beside updates: merges that are due, plateaus, and what devices report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coordinator.campaign.contributions import MAX_SCORED_DEVICES
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


def test_the_waiting_begins_with_the_first_of_the_buffer(bench: Callable[..., Any]) -> None:
    """Its time is the entry's, by the broker's clock; later ones do not put it off, a merge begins it anew."""
    campaign = bench(**FOUR).open(9)
    campaign.apply(campaign.update(1))
    first = campaign.milliseconds
    campaign.apply(campaign.update(2), campaign.update(3))
    assert campaign.state.merging.waits_since_ms == first
    campaign.apply(campaign.update(4), campaign.update(5))
    assert campaign.state.merging.waits_since_ms == campaign.milliseconds


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


def test_devices_speak_of_themselves(bench: Callable[..., Any]) -> None:
    """The newest scores of each device are kept, and nothing else of what it reports."""
    campaign = bench(**FOUR).open(6)
    campaign.apply(campaign.update(1, worker="a", metrics={"personal_accuracy": 0.5, "loss": 2.0, "own": 1.0}))
    campaign.apply(campaign.update(2, worker="b", metrics={"loss": 2.0}))
    campaign.apply(campaign.update(3, worker="a", metrics={"personal_accuracy": 0.7, "global_loss": 1.0}))
    assert campaign.state.contributions.device_scores == {"a": {"personal_accuracy": 0.7, "global_loss": 1.0}}
    campaign.apply(campaign.update(4, worker="a"), campaign.update(1, worker="a", metrics={"personal_loss": 9.0}))
    assert campaign.state.contributions.device_scores["a"]["personal_accuracy"] == 0.7, "a duplicate says nothing"


def test_devices_are_kept_in_bounds(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of names does not grow the state beyond its bound; those that are known go on."""
    monkeypatch.setattr("coordinator.campaign.contributions.MAX_SCORED_DEVICES", 2)
    assert MAX_SCORED_DEVICES >= 1000
    campaign = bench(**FOUR).open(9)
    for number, worker in enumerate("abcab", start=1):
        campaign.apply(campaign.update(number, worker=worker, metrics={"personal_loss": float(number)}))
    assert campaign.state.contributions.device_scores == {"a": {"personal_loss": 4.0}, "b": {"personal_loss": 5.0}}
