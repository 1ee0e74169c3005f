"""Running statistics in whole campaigns: readings far from 0, whose mean and variance are known, under staleness."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import fedtide
from fedtide import SimulatedDevice


def readings(shard: int, size: int = 640) -> TensorDataset:
    """Mean 40, variance 9; two classes."""
    x = 40 + 3 * torch.randn(size, 8, generator=torch.Generator().manual_seed(shard))
    return TensorDataset(x, (x[:, 0] + x[:, 1] > 80).long())


def normalised() -> nn.Module:
    """Its first layer has the readings' statistics to find."""
    return nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.parametrize(
    ("aggregation", "rate", "updates"),
    [
        ({"strategy": "fedbuff", "buffer_size": 1}, 0.5, 64),
        ({"strategy": "fedbuff", "buffer_size": 4}, 1.0, 96),
        ({"strategy": "ca2fl", "buffer_size": 4}, 0.5, 96),
        ({"strategy": "fedasync"}, None, 64),
        ({"strategy": "robust", "buffer_size": 4, "args": {"rule": "median", "num_byzantine": 0}}, 1.0, 96),
    ],
)
def test_they_are_those_of_the_devices(aggregation: dict[str, Any], rate: float | None, updates: int) -> None:
    """Eight devices each replace them nearly whole in a task, seven versions behind: the sum of their changes would
    run away. Evaluation goes by them as well as by the true ones."""
    spec: dict[str, Any] = {
        "campaign": {"name": "readings"},
        "model": {"factory": f"{__name__}:normalised"},
        "training": {"learning_rate": 0.05, "local_epochs": 1, "batch_size": 32},
        "aggregation": aggregation,
        "dispatch": {"concurrency": 8},
        "evaluation": {"data": f"{__name__}:readings", "data_args": {"shard": 99}},
    }
    if rate is not None:
        spec["server_optimizer"] = {"learning_rate": rate}
    devices = [SimulatedDevice(f"s{i}", readings(i), 0.4 + 0.01 * i) for i in range(8)]
    run = fedtide.simulate(spec, devices, updates=updates)
    assert run.summary["rollbacks"] == 0
    model: Any = run.model()
    assert (model[0].running_mean - 40).abs().max() < 1
    assert (model[0].running_var - 9).abs().max() < 1.5
    scores = [row["accuracy"] for row in run.history() if row["kind"] == "evaluation"]
    half = scores[len(scores) // 2 :]
    assert all(score > max(half[:place], default=0.0) - 0.05 for place, score in enumerate(half)), "no swings"
    x, y = readings(99).tensors
    with torch.no_grad():
        model[0].running_mean.fill_(40)
        model[0].running_var.fill_(9)
        known = float((model(x).argmax(1) == y).float().mean())
    assert scores[-1] > max(0.8, known - 0.02), "as good as with the statistics known"
