"""Methods by name and by import path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from fl_core.errors import SpecError
from fl_core.spec import TrainingSection
from fl_core.training.method import Method, Outcome, build_method

DATA = TensorDataset(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2)


class Halved(Method):
    """Local training, of whose delta half is sent."""

    def __init__(self, share: float = 0.5) -> None:
        self.share = share

    def train(self, task: Any) -> Outcome:
        training = task.train()
        values = task.layout.flatten(task.model).values - task.base.values
        return Outcome(values=np.float32(self.share) * values, training=training)


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    module = ModuleType("own_method")
    module.Halved, module.nothing = Halved, lambda: 7  # type: ignore[attr-defined]
    module.Plain = type("Plain", (Halved,), {"sends": "delta"})  # type: ignore[attr-defined]
    module.Raising = type("Raising", (Halved,), {"__init__": lambda self: 1 / 0})  # type: ignore[attr-defined]
    module.Idle = type("Idle", (Method,), {})  # type: ignore[attr-defined]
    module.Duck = type("Duck", (), {"train": Halved.train})  # type: ignore[attr-defined]
    sys.modules["own_method"] = module
    yield
    del sys.modules["own_method"]


def test_local_sends_the_delta_or_the_parameters(device_task: Callable[..., Any]) -> None:
    """Δ = w - w_base where the strategy merges deltas, and w itself where it merges parameters."""
    settings, results = TrainingSection(learning_rate=0.1, batch_size=4), {}
    for sends in ("delta", "parameters"):
        torch.manual_seed(0)
        task = device_task(nn.Linear(3, 2), DATA, settings, sends=sends)
        results[sends] = build_method(settings).train(task).values
        after = task.layout.flatten(task.model).values
        expected = after - task.base.values if sends == "delta" else after
        np.testing.assert_array_equal(results[sends], expected)


def test_an_own_method_stands_beside_the_built_in_ones(device_task: Callable[..., Any]) -> None:
    """By import path, with its own arguments; what it sends is what arrives."""
    own = TrainingSection(method="own_method:Halved", method_args={"share": 0.25}, learning_rate=0.1)
    assert isinstance(build_method(own), Method)
    local = TrainingSection(learning_rate=0.1)
    values = {}
    for settings in (own, local):
        torch.manual_seed(0)
        values[settings.method] = build_method(settings).train(device_task(nn.Linear(3, 2), DATA, settings)).values
    np.testing.assert_allclose(values["own_method:Halved"], 0.25 * values["local"], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "own_method:nothing"}, "gave a int, which is no fedtide.Method."),
        ({"method": "own_method:Idle"}, "own_method:Idle': Idle lacks the method train(task: DeviceTask) -> Outcome; "),
        ({"method": "own_method:Duck"}, "does not inherit from fedtide.Method; write class Duck(fedtide.Method)."),
        (
            {"method": "own_method:Halved", "method_args": {"shares": 1}},
            "Halved(share: 'float' = 0.5) -> 'None' cannot be called as Halved(shares=1): got an unexpected keyword",
        ),
        ({"method": "own_method:Plain"}, "with sends = 'delta'; it is a tuple of some of 'delta', 'parameters'"),
        ({"method": "own_method:Raising"}, "own_method:Raising' cannot be built: ZeroDivisionError: division by zero."),
        ({"method": "none_such:Method"}, "training.method = 'none_such:Method'"),
        ({"method_args": {"share": 1}}, "training.method_args: unknown key 'share'"),
        ({"method": "personal", "method_args": {"keeps": True}}, "unknown key 'keeps'; did you mean 'keep'?"),
        ({"method": "distillation", "method_args": {"public_data": "a:b"}}, "num_classes is missing; add it."),
    ],
)
def test_what_cannot_be_built_is_one_sentence(settings: dict[str, Any], said: str) -> None:
    """At launch, with the key and the remedy."""
    with pytest.raises(SpecError) as caught:
        build_method(TrainingSection(**settings))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"method": "persnal"}, "did you mean 'personal'?"),
        ({"pace_seconds": 1.0, "local_steps": 3}, "pace_seconds chooses the number of steps on each device; remove"),
        ({"pace_seconds": 1.0, "min_steps": 9, "max_steps": 3}, "min_steps = 9 is above max_steps = 3; swap them"),
        ({"pace_seconds": 1.0, "batch_size": 4}, "min_batch_size = 8 is above batch_size = 4; lower it"),
        ({"schedule": "linear"}, "schedule"),
        ({"schedule_factor": 0.0}, "schedule_factor"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(section: dict[str, Any], said: str) -> None:
    """Each with its key."""
    with pytest.raises(ValueError) as caught:
        TrainingSection(**section)
    assert said in str(caught.value)
