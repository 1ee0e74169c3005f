"""The device's optimizer against formulas written out in float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fl_core.spec import TrainingSection
from fl_core.training.local_optimizer import LocalOptimizer

Vector = npt.NDArray[np.float64]

_RNG = np.random.default_rng(4)
START: Vector = _RNG.normal(size=7)
GRADIENTS: Vector = _RNG.normal(size=(5, 7))


def _run(**settings: Any) -> Vector:
    parameter = torch.nn.Parameter(torch.tensor(START))
    optimizer = LocalOptimizer([parameter], TrainingSection(**settings))
    for gradient in GRADIENTS:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        assert parameter.grad is None
    result: Vector = parameter.detach().numpy()
    return result


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.1), (0.0, 0.1)])
def test_sgd(momentum: float, decay: float) -> None:
    """v <- m v + (g + decay w), w <- w - rate v, with v starting at 0."""
    w, v = START.copy(), np.zeros(7)
    for gradient in GRADIENTS:
        v = momentum * v + gradient + decay * w
        w = w - 0.2 * v
    np.testing.assert_allclose(
        _run(learning_rate=0.2, momentum=momentum, weight_decay=decay), w, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("rule", ["adam", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam(rule: str, decay: float) -> None:
    """Adam with bias correction; weight decay in the gradient (Adam) or on the parameters (AdamW)."""
    w, first, second = START.copy(), np.zeros(7), np.zeros(7)
    for t, gradient in enumerate(GRADIENTS, start=1):
        if rule == "adamw":
            w = w * (1 - 0.01 * decay)
        g = gradient + (decay * w if rule == "adam" else 0)
        first = 0.9 * first + 0.1 * g
        second = 0.999 * second + 0.001 * g**2
        w = w - 0.01 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(_run(optimizer=rule, learning_rate=0.01, weight_decay=decay), w, rtol=1e-10)


@pytest.mark.parametrize("rule", [{"momentum": 0.9}, {"optimizer": "adam"}])
def test_state_stays_with_its_parameter(rule: dict[str, Any]) -> None:
    """A parameter that gets no gradient in some steps neither moves nor takes another's state."""
    a, b = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    alone = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    settings = TrainingSection(weight_decay=0.1, **rule)
    both, single = LocalOptimizer([a, b], settings), LocalOptimizer([alone], settings)
    for step, scale in enumerate([1.0, -2.0, 5.0]):
        a.grad = torch.full((2,), 3.0, dtype=torch.float64) if step != 1 else None
        b.grad = torch.full((2,), scale, dtype=torch.float64)
        before = a.detach().clone()
        both.step()
        assert torch.equal(a, before) == (step == 1)
        alone.grad = torch.full((2,), scale, dtype=torch.float64)
        single.step()
    assert torch.equal(b, alone)
