"""A run's fleet as a profile: what its log says of its devices is what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedtide
from coordinator.simulation.fleet.from_run import profile_of

SPEC: dict[str, Any] = {
    "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 64, "hidden": [], "classes": 10}},
    "training": {"local_epochs": 2, "batch_size": 8},
    "dispatch": {"concurrency": 60},
    "checkpoint": {"keep_log": True},
    "stop": {"updates": 400},
}
PROFILE: dict[str, Any] = {
    "data": {
        "factory": "fl_core.data:digits",
        "examples": {"kind": "lognormal", "median": 30, "sigma": 0.4},
    },
    "devices": [
        {
            "seconds_per_example": {"kind": "lognormal", "median": 0.05, "sigma": 0.5},
            "overhead_seconds": 0.0, "down_bytes_per_second": 5000.0, "drop_out": 0.1, "speed_follows_data": 0.8,
        }
    ],
}  # fmt: skip


def test_a_simulated_fleet_is_found_again(tmp_path: Path) -> None:
    """Sizes, speeds, how they go together, drop-outs and the way down; and the profile is one that can be run."""
    fedtide.simulate(SPEC, 300, profile=PROFILE, out=tmp_path / "run")
    found = profile_of(tmp_path / "run")
    (device,) = found["devices"]
    assert np.median(found["data"]["examples"]["values"]) == pytest.approx(30, rel=0.15)
    assert np.median(device["seconds_per_example"]["values"]) == pytest.approx(0.05, rel=0.25)
    assert set(device["down_bytes_per_second"]["values"]) == {5000.0}
    assert device["speed_follows_data"] == pytest.approx(0.8, abs=0.12)
    assert device["drop_out"] == pytest.approx(0.1, abs=0.05)
    again = {**found, "data": {**found["data"], "factory": "fl_core.data:digits"}}
    assert fedtide.simulate(SPEC, 100, profile=again, updates=20).summary["merged"] == 20


def test_a_run_that_says_too_little_is_refused(tmp_path: Path) -> None:
    """One without a log, or whose devices chose their own amount of work."""
    fedtide.simulate({**SPEC, "checkpoint": {}}, 20, profile=PROFILE, updates=20, out=tmp_path / "run")
    with pytest.raises(fedtide.SpecError, match="has kept its log"):
        profile_of(tmp_path / "run")
    paced = {**SPEC, "training": {"pace_seconds": 1.0}}
    fedtide.simulate(paced, 20, profile=PROFILE, updates=20, out=tmp_path / "paced")
    with pytest.raises(fedtide.SpecError, match="without pace_seconds"):
        profile_of(tmp_path / "paced")
