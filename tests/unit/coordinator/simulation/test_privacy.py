"""Campaigns with local noise in virtual time: each device gives as much as it may, and then rests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import fedtide
from coordinator.simulation.privacy import SimulatedPrivacy
from fedtide import SimulatedDevice
from fl_core.errors import InvariantError
from fl_core.privacy.terms import Terms
from fl_core.wire.messages import TaskCall, TrainOrder, TrainTask


def spec(seed: int = 1, **privacy: Any) -> dict[str, Any]:
    return {
        "campaign": {"name": "sim", "seed": seed},
        "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 4, "hidden": [], "classes": 2}},
        "training": {"local_steps": 1, "batch_size": 4},
        "aggregation": {"buffer_size": 2},
        "dispatch": {"concurrency": 3},
        "privacy": privacy,
    }


def devices(number: int = 3) -> list[SimulatedDevice]:
    inputs = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())
    return [SimulatedDevice(f"device-{i}", data, 1.0 + i / 10) for i in range(number)]


def test_each_device_gives_what_it_may() -> None:
    """Three devices of four updates each make twelve, whatever their speeds."""
    private = spec(mode="local", noise_multiplier=8.0, max_participations=4)
    run = fedtide.simulate(private, devices(), updates=12)
    assert run.summary["merged_by_worker"] == {f"device-{i}": 4 for i in range(3)}
    reissued = [row for row in run.history() if row["kind"] == "reissue"]
    assert {row["reason"] for row in reissued} <= {"budget_spent"}
    assert all("epsilon" in row["detail"] for row in reissued)


def test_it_is_over_when_all_have_given_what_they_may() -> None:
    """Long before its time, and nothing waits in silence."""
    private = spec(mode="local", noise_multiplier=8.0, max_participations=2)
    run = fedtide.simulate(private, devices(), seconds=100_000)
    assert run.summary["merged_by_worker"] == {f"device-{i}": 2 for i in range(3)}
    assert run.summary["stop_reason"] == "privacy"
    assert run.summary["wall_seconds"] < 200


def test_the_noise_is_the_seed_s() -> None:
    """The same model for the same seed, another for another one; and the noise is as large as it has to be."""
    private = {"mode": "local", "noise_multiplier": 50.0, "clip": 0.1, "max_participations": 4}
    models = [fedtide.simulate(spec(seed, **private), devices(), updates=2).model() for seed in (1, 1, 2)]
    first, again, other = (np.concatenate([v.detach().numpy().ravel() for v in m.parameters()]) for m in models)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1.0
    without = fedtide.simulate(spec(), devices(), updates=2).model()
    start = np.concatenate([v.detach().numpy().ravel() for v in without.parameters()])
    assert 0.3 < np.std(first - start) / (5.0 / np.sqrt(2)) < 3.0


def test_a_device_that_was_not_asked() -> None:
    """Spending beyond the budget is a bug, and every update has noise of its own."""
    terms = Terms("local", 1.0, 8.0, 1e-6, 2)
    order = TrainOrder(
        campaign="a", timeout_seconds=1.0, model_factory="a:b", model_args={}, layout_digest="0" * 32,
        training={}, codec="fp32", sends="delta", privacy=terms.order(),
    )  # fmt: skip
    tasks = [TrainTask.of(TaskCall(campaign="a", task_id=f"{i}-x", attempt=1, queue="q"), order) for i in range(3)]
    privacy = SimulatedPrivacy()
    keys = {privacy.spend("a", task, terms) for task in tasks[:2]} | {privacy.spend("b", tasks[0], terms)}
    assert len(keys) == 3
    assert not privacy.verify("a", tasks[2]) and privacy.verify("b", tasks[2])
    assert privacy.is_spent("a") and not privacy.is_spent("b")
    with pytest.raises(InvariantError):
        privacy.spend("a", tasks[2], terms)
