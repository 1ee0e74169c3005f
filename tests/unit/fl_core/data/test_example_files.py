"""The examples' files say what they mean to say."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils.data import Subset

from coordinator.launch.fleet import load_fleet
from fl_core.factory import call, resolve
from fl_core.metrics.evaluation import evaluate
from fl_core.models.build import build_model
from fl_core.program.toml_file import read_toml
from fl_core.spec import load_spec

EXAMPLES = Path(__file__).parents[4] / "examples"


@pytest.mark.parametrize("name", ["attention", "digits", "keyboard", "own_code", "translation"])
def test_each_example_can_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spec is valid, its model builds, and each worker's data fits the model."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(EXAMPLES / "own_code")])
    spec = load_spec(EXAMPLES / name / "campaign.toml")
    workers = load_fleet(EXAMPLES / name / "fleet.toml")
    model = build_model(spec.model.factory, spec.model.args, spec.campaign.seed)
    assert spec.dispatch.concurrency == len(workers)
    for worker in workers:
        dataset = call(worker.data, worker.data_args, "data")
        scores = evaluate(model, Subset(dataset, [0, 1]), spec.training, 2, torch.device("cpu"))
        assert math.isfinite(scores.loss)
    if spec.evaluation.show is not None:
        assert callable(resolve(spec.evaluation.show, "evaluation.show"))


def test_the_digits_fleet_divides_the_training_split() -> None:
    """Eight shards, every training digit in one of them, no held-out digit in any."""
    spec = load_spec(EXAMPLES / "digits" / "campaign.toml")
    workers = read_toml(EXAMPLES / "digits" / "fleet.toml")["worker"]
    shards = [call(worker["data"], worker["data_args"], "data") for worker in workers]
    assert spec.evaluation.data is not None
    held_out = call(spec.evaluation.data, spec.evaluation.data_args, "evaluation.data")
    rows = Counter(row.numpy().tobytes() for part in [*shards, held_out] for row in part.tensors[0])
    everything = call("fl_core.data:digits", {"split": "all"}, "data").tensors[0]
    assert rows == Counter(row.numpy().tobytes() for row in everything)
    assert torch.unique(held_out.tensors[1]).tolist() == list(range(10))
    assert [w["emulate_delay_seconds"] for w in workers] == [0.05] * 4 + [0.1] * 2 + [0.5, 2.0]
