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
from fl_core.spec import METHODS, TrainingSection
from fl_core.training.method import BUILT_IN, Method, Outcome, build_method, verify_method

DATA = TensorDataset(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2)


class Halved:
    """Local training, of whose delta half is sent."""

    sends = ("delta",)

    def __init__(self, settings: TrainingSection) -> None:
        self.share = settings.method_args.get("share", 0.5)

    def train(self, task: Any) -> Outcome:
        training = task.train()
        values = task.layout.flatten(task.model).values - task.base.values
        return Outcome(values=np.float32(self.share) * values, training=training)


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    module = ModuleType("own_method")
    module.Halved, module.Nothing = Halved, lambda settings: 7  # type: ignore[attr-defined]
    module.Plain = type("Plain", (Halved,), {"sends": "delta"})  # type: ignore[attr-defined]
    module.Argued = type("Argued", (Halved,), {"train": lambda self, task, more: None})  # type: ignore[attr-defined]
    module.Raising = lambda settings: 1 / 0  # type: ignore[attr-defined]
    sys.modules["own_method"] = module
    yield
    del sys.modules["own_method"]


def test_the_names_of_the_spec_are_those_of_the_methods() -> None:
    """Two lists that must agree."""
    assert set(METHODS) == set(BUILT_IN)


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
    verify_method(own, "delta")
    local = TrainingSection(learning_rate=0.1)
    values = {}
    for settings in (own, local):
        torch.manual_seed(0)
        values[settings.method] = build_method(settings).train(device_task(nn.Linear(3, 2), DATA, settings)).values
    np.testing.assert_allclose(values["own_method:Halved"], 0.25 * values["local"], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "own_method:Nothing"}, "gave a int, which lacks sends; see fl_core.training.method.Method."),
        ({"method": "own_method:Plain"}, "with sends = 'delta'; it is a tuple of some of 'delta', 'parameters'"),
        (
            {"method": "own_method:Argued"},
            "Argued.train(task, more) cannot be called as train(task): missing a required",
        ),
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


@pytest.mark.parametrize("method", ["personal", "per_fedavg"])
def test_a_method_and_a_strategy_have_to_fit(method: str) -> None:
    """What sends deltas does not go with a strategy that merges parameters."""
    with pytest.raises(
        SpecError, match=rf"training.method = '{method}' sends delta and aggregation.strategy merges par"
    ):
        verify_method(TrainingSection(method=method), "parameters")


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
