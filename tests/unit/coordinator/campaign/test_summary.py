"""summary.json: a pure function of the state, whose counts add up."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.campaign.summary import describe_staleness, summarise
from fl_core.wire.digest import digest


def _summary(bench: Any, now_ms: int = 0) -> dict[str, Any]:
    return summarise("digits-1", bench.spec, bench.state, bench.layout, now_ms=now_ms)


def test_what_monitors_are_told_does_not_grow_with_the_fleet(bench: Callable[..., Any]) -> None:
    """Of ten thousand workers the status names those that merged most, and says how many there are."""
    campaign = _played(bench)
    campaign.state.contributions.merged_by_worker.update({f"worker-{number:05}": number for number in range(10_000)})
    campaign.state.contributions.device_scores = {
        f"worker-{number:05}": {"personal_loss": 1.0} for number in range(10_000)
    }
    told = summarise("digits-1", campaign.spec, campaign.state, campaign.layout, max_workers=64)
    assert told["num_workers"] == 10_002
    assert list(told["merged_by_worker"]) == [f"worker-{number:05}" for number in range(9936, 10_000)]
    assert (told["device_means"], len(told["device_scores"])) == ({"personal_loss": 1.0}, 64)
    assert len(msgpack.packb(told)) < 8000
    assert len(_summary(campaign)["merged_by_worker"]) == 10_002


def _played(bench: Callable[..., Any]) -> Any:
    campaign = bench(aggregation={"buffer_size": 2}, dispatch={"max_attempts": 1}).open(7)
    campaign.apply(campaign.update(1, worker="b"), campaign.update(2, worker="a"), campaign.update(3, worker="a"))
    campaign.apply(campaign.update(4, codec="zip"), campaign.update(1), campaign.reissued(5))
    campaign.apply(campaign.event("evaluated", {"version": 1, "loss": 0.5, "accuracy": 0.02, "num_examples": 10}))
    return campaign


def test_the_counts_of_a_running_campaign_add_up(bench: Callable[..., Any]) -> None:
    """issued = merged + rejected + expired + cancelled + out, and surplus stands beside."""
    summary = _summary(_played(bench))
    rejected = sum(summary["rejected"].values())
    assert summary["issued"] == 7
    assert (summary["merged"], rejected, summary["expired"], summary["cancelled"], summary["out"]) == (2, 1, 1, 0, 3)
    assert (summary["rejected"], summary["surplus"]) == ({"malformed": 1}, {"duplicate": 1})
    assert (summary["state"], summary["versions"], summary["stop_reason"]) == ("running", 1, "")


def test_the_summary_of_an_ended_campaign(bench: Callable[..., Any]) -> None:
    """After the end the wall time is the campaign's own, whatever the clock says later."""
    campaign = _played(bench)
    campaign.apply(campaign.event("stopped", {"reason": "asked", "control": ""}))
    summary = _summary(campaign, now_ms=campaign.milliseconds + 10**6)
    seconds = (campaign.milliseconds - 1_000_500) / 1000
    assert (summary["state"], summary["stop_reason"], summary["wall_seconds"]) == ("stopped", "asked", seconds)
    assert (summary["merged"], summary["cancelled"], summary["out"]) == (3, 2, 0)
    assert summary["updates_per_second"] == round(3 / seconds, 3)
    assert summary["merged_by_worker"] == {"a": 2, "b": 1}
    assert list(summary["merged_by_worker"]) == ["a", "b"]
    assert summary["num_workers"] == 2
    assert (summary["final_accuracy"], summary["best_loss"], summary["seconds_to"]["0.02"]) == (
        0.02,
        0.5,
        seconds - 0.5,
    )
    assert summary["num_parameters"] == 64
    assert summary["model_digest"] == digest(campaign.state.strategy.parameters.values.tobytes())
    assert json.loads(json.dumps(summary)) == summary


def test_a_running_campaign_is_measured_by_the_clock_that_is_given(bench: Callable[..., Any]) -> None:
    """Before the end the wall time goes to now; a campaign that has not begun has none and divides by nothing."""
    campaign = _played(bench)
    assert _summary(campaign, now_ms=1_000_500 + 4000)["wall_seconds"] == 4.0
    assert _summary(campaign, now_ms=1_000_500 + 4000)["updates_per_second"] == 0.5
    assert _summary(bench())["updates_per_second"] == 0.0


def test_describing_changes_nothing(bench: Callable[..., Any]) -> None:
    """The summary is read-only: the state is the same before and after, and what it gave does not change later."""
    campaign = _played(bench)
    before = campaign.fingerprint()
    summary = _summary(campaign)
    text = json.dumps(summary)
    assert campaign.fingerprint() == before
    campaign.apply(campaign.event("evaluated", {"version": 1, "loss": 0.1, "accuracy": 0.9, "num_examples": 10}))
    assert json.dumps(summary) == text


@given(st.lists(st.integers(0, 60), min_size=1, max_size=400))
def test_quantiles_are_nearest_rank(values: list[int]) -> None:
    """p50 and p95 are elements of the sorted list at rank ceil(share * n), the mean and the largest are numpy's."""
    described = describe_staleness(Counter(values))
    ordered = sorted(values)
    assert described["p50"] == ordered[-(-50 * len(values) // 100) - 1]
    assert described["p95"] == ordered[-(-95 * len(values) // 100) - 1]
    assert described["max"] == ordered[-1]
    assert described["mean"] == pytest.approx(float(np.mean(values)), abs=1e-4)


def test_no_updates_have_no_staleness() -> None:
    """A campaign without a merge shows zeros, not NaN."""
    assert describe_staleness(Counter()) == {"mean": 0.0, "p50": 0, "p95": 0, "max": 0}
    assert not math.isnan(describe_staleness(Counter({0: 1}))["mean"])
