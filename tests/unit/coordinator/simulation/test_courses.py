"""Courses of whole campaigns that take long in real time: a fleet at one pace, a campaign that diverges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fedtide
from fedtide import SimulatedDevice

DIGITS = "fl_core.data:digits"
SPEC: dict[str, dict[str, Any]] = {
    "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [16], "classes": 10}},
    "dispatch": {"concurrency": 2},
    "aggregation": {"buffer_size": 2},
}


def _devices(*seconds_per_example: float) -> list[SimulatedDevice]:
    return [
        SimulatedDevice(f"device-{i}", DIGITS, 0.01, seconds, data_args={"shard": i, "num_shards": 4})
        for i, seconds in enumerate(seconds_per_example)
    ]


def test_devices_of_unlike_speed_work_at_one_pace() -> None:
    """The slow one, forty times as slow, does less for each update and sends as many."""
    training = {"pace_seconds": 0.1, "batch_size": 16, "min_batch_size": 4}
    run = fedtide.simulate({**SPEC, "training": training}, _devices(0.0001, 0.004), updates=40)
    slow, fast = sorted(run.summary["merged_by_worker"].values())
    assert slow >= 0.6 * fast
    assert run.summary["staleness"]["max"] <= 2
    without = fedtide.simulate({**SPEC, "training": {"local_steps": 20, "batch_size": 16}}, _devices(0.0001, 0.004),
                               updates=40)  # fmt: skip
    assert min(without.summary["merged_by_worker"].values()) < 5


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_campaign_that_diverges_goes_back_until_it_gives_up() -> None:
    """To the last good version each time, under a new number and at half the rate; that version is delivered."""
    spec = {
        **SPEC,
        "training": {"learning_rate": 30.0, "local_steps": 4},
        "guard": {"factor": 1.2, "max_rollbacks": 2},
        "evaluation": {"data": DIGITS, "data_args": {"split": "test"}},
    }
    run = fedtide.simulate(spec, _devices(0.001, 0.002), seconds=3600.0)
    assert (run.state, run.summary["stop_reason"]) == ("stopped", "diverged")
    assert run.summary["rollbacks"] == 3
    assert set(run.summary["rejected"]) <= {"rolled_back", "not_finite", "norm_exceeded"}
    lines = [row for row in run.history() if row["kind"] in ("merge", "rollback")]
    assert [row["version"] for row in lines] == list(range(1, run.summary["versions"] + 1))
    assert [row["rate_factor"] for row in lines if row["kind"] == "rollback"] == [0.5, 0.25, 0.125]
    assert np.isfinite(run.summary["final_loss"])
    assert run.summary["final_loss"] < 10
