"""Who waits in the buffer and since when, and whom a merge is credited to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

THREE = {"aggregation": {"buffer_size": 3, "staleness": "constant"}}


def test_a_buffer_waits_since_its_first_update(bench: Callable[..., Any]) -> None:
    """Later ones do not put it off; a merge begins it again."""
    campaign = bench(**THREE).open(8)
    campaign.apply(campaign.update(1))
    first = campaign.milliseconds
    campaign.apply(campaign.update(2))
    assert campaign.state.merging.waits_since_ms == first
    campaign.apply(campaign.update(3))
    assert campaign.state.merging.waits_since_ms == campaign.milliseconds


def test_a_flush_of_nothing_makes_no_version(bench: Callable[..., Any]) -> None:
    """And says so; one of something is a merge like any other."""
    campaign = bench(**THREE).open(4)
    effects = campaign.apply(campaign.update(1, worker="a"))
    assert campaign.state.merging.flush(effects)
    assert [(line.version, line.workers) for line in effects.history] == [(1, ("a",))]
    assert not campaign.state.merging.flush(effects)


def test_another_model_begins_with_an_empty_buffer(bench: Callable[..., Any]) -> None:
    """What waited came from the one before; its tasks end as cancelled."""
    campaign = bench(**THREE).open(4)
    campaign.apply(campaign.update(1), campaign.update(2))
    other = campaign.new_state().strategy
    campaign.state.merging.go_on_with(other)
    campaign.state.ledger.verify()
    assert (campaign.state.strategy, campaign.state.ledger.cancelled) == (other, 2)
    assert campaign.state.merging.export()["buffered_workers"] == []
