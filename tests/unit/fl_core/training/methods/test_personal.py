"""Personal models against a float64 reference, their special cases, and that they help where devices differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from fl_core.errors import SpecError
from fl_core.models import mlp
from fl_core.spec import TrainingSection
from fl_core.training.holdout import split_private
from fl_core.training.method import build_method
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.layout import Layout

Array = npt.NDArray[np.float64]
RNG = np.random.default_rng(8)
X = RNG.normal(size=(20, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.1 * RNG.normal(size=20)
DATA = TensorDataset(torch.tensor(X), torch.tensor(Y)[:, None])
BASE, SEEN, OWN = RNG.normal(size=(3, 3)).astype(np.float32).astype(np.float64)


def _settings(**args: Any) -> TrainingSection:
    rest = {"loss": "mse", "learning_rate": 0.05, "local_steps": 3, "batch_size": 100}
    return TrainingSection(method="personal", method_args=args, **rest)  # type: ignore[arg-type]


def _model(values: Array) -> nn.Linear:
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(values)[None])
    return model


def _gradient(w: Array, indices: list[int]) -> Array:
    """Of the mean squared error."""
    x, y = X[indices], Y[indices]
    gradient: Array = 2 * x.T @ (x @ w - y) / len(indices)
    return gradient


def _reference(args: dict[str, Any], memory: dict[str, Array]) -> tuple[Array, Array]:
    """Steps 1 to 4 in numpy float64: what is sent, and θ_i."""
    training, validation, _ = (list(part.indices) for part in split_private(DATA, "pi", 0.2, 0.2))
    theta = memory["personal"] + args["personal_rate"] * (BASE - memory["base"]) if memory else BASE.copy()
    theta = theta - args["pull"] * (theta - BASE)
    for _ in range(3):
        theta = theta - 0.05 * _gradient(theta, training)
    u = BASE - theta
    for _ in range(args["meta_steps"]):
        at = theta if args["first_order"] else theta - args["meta_rate"] * u
        u = u - args["meta_learning_rate"] * -args["meta_rate"] * _gradient(at, validation)
    return -u, theta


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("known", [False, True], ids=["first task", "later task"])
def test_one_task_is_the_four_steps(device_task: Callable[..., Any], first_order: bool, known: bool) -> None:
    """Personalise, train, find the meta-updater, send minus it: a linear regression, to float32's precision."""
    args = {
        "personal_rate": 0.3, "pull": 0.15, "meta_steps": 4, "meta_rate": 0.8, "meta_learning_rate": 0.1,
        "first_order": first_order,
    }  # fmt: skip
    before = {"personal": OWN, "base": SEEN} if known else {}
    sent, theta = _reference(args, before)
    memory = {name: values.astype(np.float32) for name, values in before.items()}
    settings = _settings(**args)
    outcome = build_method(settings).train(device_task(_model(BASE), DATA, settings, memory=memory))
    np.testing.assert_allclose(outcome.values, sent, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(memory["personal"], theta, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(memory["base"], BASE, rtol=1e-6)
    assert outcome.part == 0
    assert {"personal_loss", "global_loss"} <= outcome.metrics.keys()
    test = list(split_private(DATA, "pi", 0.2, 0.2)[2].indices)
    for name, w in (("global", BASE), ("personal", theta)):
        assert outcome.metrics[f"{name}_loss"] == pytest.approx(np.mean((X[test] @ w - Y[test]) ** 2), rel=1e-4)


def test_without_memory_and_meta_steps_it_is_reptile(device_task: Callable[..., Any]) -> None:
    """keep = false and meta_steps = 0 send, to the bit, what method local sends of the training part."""
    settings = _settings(keep=False, meta_steps=0)
    memory: dict[str, FloatArray] = {}
    found = build_method(settings).train(device_task(_model(BASE), DATA, settings, memory=memory))
    local = settings.model_copy(update={"method": "local", "method_args": {}})
    training = split_private(DATA, "pi", 0.2, 0.2)[0]
    expected = build_method(local).train(device_task(_model(BASE), training, local))
    np.testing.assert_array_equal(found.values, expected.values)
    assert memory == {}


def test_a_memory_of_another_model_is_not_used(device_task: Callable[..., Any]) -> None:
    """A vector of another size is passed over: the task starts from the base version."""
    settings = _settings()
    memory = {"personal": np.ones(7, np.float32), "base": np.ones(7, np.float32)}
    found = build_method(settings).train(device_task(_model(BASE), DATA, settings, memory=memory))
    fresh = build_method(settings).train(device_task(_model(BASE), DATA, settings))
    np.testing.assert_array_equal(found.values, fresh.values)
    assert memory["personal"].shape == (3,)


def test_a_rate_of_1_is_refused() -> None:
    """With it the fleet would run after itself for ever."""
    with pytest.raises(SpecError, match=r"personal_rate = 1.0 is not accepted; input should be less than 1"):
        build_method(_settings(personal_rate=1.0))


def test_where_devices_differ_a_personal_model_wins(device_task: Callable[..., Any]) -> None:
    """Six devices with two classes each, 15 versions of all: the own models are better on the devices' own test parts,
    by more than 10 points in the mean."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(6, 10))
    shards = []
    for device in range(6):
        labels = generator.choice([device, (device + 1) % 6], 80)
        inputs = centres[labels] + 1.5 * generator.normal(size=(80, 10))
        shards.append(TensorDataset(torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels)))
    model = mlp(inputs=10, hidden=[8], classes=6)
    layout = Layout.of(model)
    values = np.random.default_rng(1).normal(size=layout.num_elements).astype(np.float32) * 0.3
    settings = TrainingSection(method="personal", learning_rate=0.1, local_steps=5, batch_size=16)
    method, memories = build_method(settings), [dict[str, FloatArray]() for _ in shards]
    for version in range(15):
        outcomes = []
        for device, shard in enumerate(shards):
            layout.load_into(model, Parameters(values))
            task = device_task(
                model, shard, settings, memory=memories[device], worker=f"pi-{device}", seed=version * 10 + device
            )
            outcomes.append(method.train(task))
        values = values + np.mean([outcome.values for outcome in outcomes], axis=0)
    gains = [o.metrics["personal_accuracy"] - o.metrics["global_accuracy"] for o in outcomes]
    assert np.mean(gains) > 0.1
    assert min(gains) > -0.1, "one example of sixteen at most"
