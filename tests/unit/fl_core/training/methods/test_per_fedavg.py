"""Per-FedAvg against the analytic gradient of its objective on a least-squares problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from fl_core.errors import TrainingStopped
from fl_core.models import mlp
from fl_core.spec import TrainingSection
from fl_core.training.holdout import split_private
from fl_core.training.method import build_method

Array = npt.NDArray[np.float64]
RNG = np.random.default_rng(21)
X = RNG.normal(size=(30, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3 * RNG.normal(size=30)
W0 = np.array([0.5, 0.25, -0.75])


class Watched(nn.Linear):
    """A linear model without bias that remembers its batches."""

    def __init__(self) -> None:
        super().__init__(3, 1, bias=False, dtype=torch.float64)
        self.seen: list[Array] = []
        with torch.no_grad():
            self.weight.copy_(torch.tensor(W0)[None])

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x.detach().numpy().copy())
        return super().forward(x)


def _settings(steps: int = 3, **args: Any) -> TrainingSection:
    return TrainingSection(
        method="per_fedavg", method_args=args, loss="mse", learning_rate=0.03, local_steps=steps, batch_size=5
    )


def _run(device_task: Callable[..., Any], settings: TrainingSection) -> tuple[Any, list[tuple[Array, Array]]]:
    model, data = Watched(), TensorDataset(torch.tensor(X), torch.tensor(Y)[:, None])
    outcome = build_method(settings).train(device_task(model, data, settings))
    places = {row.tobytes(): i for i, row in enumerate(X)}
    batches = [(batch, Y[[places[row.tobytes()] for row in batch]]) for batch in model.seen]
    return outcome, batches


def _gradient(w: Array, batch: tuple[Array, Array]) -> Array:
    x, y = batch
    gradient: Array = 2 * x.T @ (x @ w - y) / len(y)
    return gradient


@pytest.mark.parametrize("first_order", [True, False])
def test_the_step_is_the_gradient_of_the_loss_after_adapting(
    device_task: Callable[..., Any], first_order: bool
) -> None:
    """w <- w - β (I - α H) ∇f(w - α ∇f(w; D); D') with H = 2 XᵀX / n of D; without H in the first-order variant."""
    settings = _settings(inner_learning_rate=0.1, first_order=first_order)
    outcome, batches = _run(device_task, settings)
    w = W0.copy()
    for step in range(3):
        first, second = batches[2 * step], batches[2 * step + 1]
        gradient = _gradient(w - 0.1 * _gradient(w, first), second)
        hessian = 0 if first_order else 2 * first[0].T @ first[0] / len(first[0])
        w = w - 0.03 * (np.eye(3) - 0.1 * hessian) @ gradient
    np.testing.assert_allclose(outcome.values, w - W0, rtol=1e-5, atol=1e-7)
    adapted = w - 0.1 * _gradient(w, batches[6])
    test = list(split_private(TensorDataset(torch.tensor(X)), "pi", 0.0, 0.2)[2].indices)
    for name, at in (("global", W0), ("personal", adapted)):
        assert outcome.metrics[f"{name}_loss"] == pytest.approx(np.mean((X[test] @ at - Y[test]) ** 2), rel=1e-4)
    assert (outcome.training.num_steps, outcome.training.num_seen) == (3, sum(len(y) for _, y in batches[:6]))


def test_without_an_inner_step_it_is_sgd_on_the_second_batches(device_task: Callable[..., Any]) -> None:
    """As α goes to 0 the first batch of each pair has no say."""
    outcome, batches = _run(device_task, _settings(inner_learning_rate=1e-12, first_order=False))
    w = W0.copy()
    for second in batches[1:6:2]:
        w = w - 0.03 * _gradient(w, second)
    np.testing.assert_allclose(outcome.values, w - W0, rtol=1e-5, atol=1e-7)


def test_the_outer_step_takes_the_optimizer_s_settings(device_task: Callable[..., Any]) -> None:
    """Momentum, weight decay, clipping and the local schedule are those of any local training."""
    settings = _settings(inner_learning_rate=0.1).model_copy(
        update={"momentum": 0.9, "weight_decay": 0.1, "max_gradient_norm": 0.5, "local_schedule": "cosine"}
    )
    outcome, batches = _run(device_task, settings)
    w, velocity = W0.copy(), np.zeros(3)
    for step in range(3):
        gradient = _gradient(w - 0.1 * _gradient(w, batches[2 * step]), batches[2 * step + 1])
        gradient *= min(1.0, 0.5 / np.linalg.norm(gradient))
        velocity = 0.9 * velocity + gradient + 0.1 * w
        w = w - 0.03 * 0.5 * (1 + np.cos(np.pi * step / 3)) * velocity
    np.testing.assert_allclose(outcome.values, w - W0, rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_leaves_torch_alone(device_task: Callable[..., Any]) -> None:
    """Dropout draws from the task's seed, not from the process's generator."""
    settings = TrainingSection(method="per_fedavg", local_steps=3, batch_size=5)
    data = TensorDataset(torch.tensor(X).float(), torch.tensor(Y > 0).long())
    results, start = [], mlp(inputs=3, hidden=[8], classes=2, dropout=0.5).state_dict()
    for noise in range(2):
        model = mlp(inputs=3, hidden=[8], classes=2, dropout=0.5)
        model.load_state_dict(start)
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        results.append(build_method(settings).train(device_task(model, data, settings)).values)
        assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(results[0], results[1])


def test_it_stops_when_told(device_task: Callable[..., Any]) -> None:
    """A cancelled task ends before its next step."""
    data = TensorDataset(torch.tensor(X), torch.tensor(Y)[:, None])
    with pytest.raises(TrainingStopped):
        build_method(_settings()).train(device_task(Watched(), data, _settings(), should_stop=lambda: True))
