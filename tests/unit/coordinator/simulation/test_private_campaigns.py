"""Central privacy in virtual time: the same bits at every run, rests that cost no task, and an end by budgets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.utils.data import TensorDataset

import fedtide
from fl_core.privacy.accountant import epsilon_of


def _data(seed: int) -> TensorDataset:
    inputs = torch.randn(12, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


def _run(strategy: str = "fedbuff", **privacy: Any) -> fedtide.Run:
    """Eight devices of unequal speed, of which three or four make a version, until nobody may contribute any more."""
    spec = {
        "campaign": {"name": "private", "seed": 3},
        "model": {"factory": "fl_core.models:mlp", "args": {"inputs": 4, "hidden": [3], "classes": 2}},
        "training": {"local_steps": 1, "batch_size": 4},
        "aggregation": {"strategy": strategy, "buffer_size": 3},
        "dispatch": {"concurrency": 4 if strategy == "fedavg" else 6},
        "privacy": {"mode": "central", "delta": 1e-3, "max_participations": 4, **privacy},
    }
    devices = [fedtide.SimulatedDevice(f"device-{i}", _data(i), 1.0 + 0.3 * i) for i in range(8)]
    return fedtide.simulate(spec, devices, seconds=100_000.0)


@pytest.mark.parametrize(
    ("strategy", "privacy"),
    [
        ("fedbuff", {"epsilon": 4.0}),
        ("fedbuff", {"epsilon": 4.0, "min_separation": 2}),
        ("fedavg", {"noise_multiplier": 0.2}),
    ],
)
def test_budgets_end_a_campaign_and_no_device_passes_its_own(strategy: str, privacy: dict[str, Any]) -> None:
    """Claims keep devices that rest from training in vain, so that no update is refused."""
    run = _run(strategy, **privacy)
    told = run.summary
    assert (told["state"], told["stop_reason"], told["rejected"]) == ("finished", "privacy", {})
    status = told["privacy"]
    assert 0 < status["epsilon"] <= status["budget"]
    rows = [row for row in run.history() if row["kind"] == "merge"]
    last, spent = dict[str, int](), dict[str, float]()
    promise = json.loads((run.folder / "privacy.json").read_text())
    for row in rows:
        for worker, weight in zip(row["workers"], row["weights"], strict=True):
            assert row["version"] - last.get(worker, -10) >= privacy.get("min_separation", 1)
            last[worker] = row["version"]
            spent[worker] = spent.get(worker, 0.0) + (weight / promise["noise_multiplier"]) ** 2
    epsilons = [row["epsilon"] for row in rows]
    assert epsilons == sorted(epsilons)
    assert epsilons[-1] == pytest.approx(status["epsilon"], abs=1e-5)
    assert status["epsilon"] == pytest.approx(epsilon_of(max(spent.values()) ** 0.5, 1e-3), rel=1e-4)


def test_the_same_seed_gives_the_same_bits() -> None:
    """Noise and all."""
    runs = [_run(epsilon=4.0) for _ in range(2)]
    one, two = (load_file(run.folder / "model.safetensors") for run in runs)
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])
