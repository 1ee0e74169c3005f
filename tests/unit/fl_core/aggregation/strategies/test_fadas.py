"""FADAS is the paper's AMSGrad on the mean of a buffer, slower after very stale ones."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (5,)), TensorSpec("v", (2,))))
RATE, BETA1, BETA2, EPSILON = 0.02, 0.8, 0.95, 1e-6
Rows = npt.NDArray[np.float32]


def fadas(buffer_size: int, **args: Any) -> Strategy:
    """A strategy that starts from zeros, with constants that are not the defaults."""
    document = {
        "model": {"factory": "m:f"},
        "aggregation": {
            "strategy": "fadas",
            "buffer_size": buffer_size,
            "args": {"beta1": BETA1, "beta2": BETA2, "epsilon": EPSILON, **args},
        },
        "server_optimizer": {"learning_rate": RATE},
    }
    return build_strategy(parse_spec(document), LAYOUT, Parameters(np.zeros(7, np.float32)))


def reference(rows: Rows, staleness: list[int], buffer_size: int, threshold: int) -> npt.NDArray[np.float64]:
    """The algorithm in float64, with the rate times min(1, τ_c / τ_max)."""
    x, m, v, largest = np.zeros(7), np.zeros(7), np.zeros(7), np.zeros(7)
    for start in range(0, len(rows) - buffer_size + 1, buffer_size):
        mean = rows[start : start + buffer_size].astype(np.float64).mean(axis=0)
        oldest = max(staleness[start : start + buffer_size])
        m = BETA1 * m + (1 - BETA1) * mean
        v = BETA2 * v + (1 - BETA2) * mean**2
        largest = np.maximum(largest, v)
        x += RATE * min(1.0, threshold / max(oldest, 1)) * m / (np.sqrt(largest) + EPSILON)
    return x


@given(
    staleness=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    buffer_size=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_steps_are_the_algorithms(staleness: list[int], buffer_size: int, seed: int) -> None:
    """Against a float64 loop; the rate sees the largest staleness of each buffer."""
    rows = np.random.default_rng(seed).normal(size=(len(staleness), 7)).astype(np.float32)
    strategy = fadas(buffer_size, delay_threshold=5)
    for row, tau in zip(rows, staleness, strict=True):
        strategy.offer(Contribution(Delta(row), 7, tau, "w"))
    expected = reference(rows, staleness, buffer_size, threshold=5)
    np.testing.assert_allclose(strategy.parameters.values, expected, rtol=1e-4, atol=1e-6)


def test_without_delay_it_is_the_servers_amsgrad_but_for_the_bias_correction() -> None:
    """On fresh updates a step is torch's own AMSGrad step, times (1 - β1^t) / √(1 - β2^t), which the paper has not."""
    import torch

    rows = np.random.default_rng(3).normal(size=(6, 7)).astype(np.float32)
    strategy = fadas(1)
    before = strategy.parameters.values.copy()
    parameter = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    adam = torch.optim.Adam([parameter], lr=RATE, betas=(BETA1, BETA2), eps=1e-12, amsgrad=True)
    for step, row in enumerate(rows, start=1):
        strategy.offer(Contribution(Delta(row), 1, 0, "w"))
        own = strategy.parameters.values - before
        before = strategy.parameters.values.copy()
        start = parameter.detach().clone()
        parameter.grad = torch.from_numpy(-row[:5].astype(np.float64))
        adam.step()
        torchs = (parameter.detach() - start).numpy() * (1 - BETA1**step) / np.sqrt(1 - BETA2**step)
        np.testing.assert_allclose(own[:5], torchs, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "staleness", "factor"),
    [("proportional", 5, 1.0), ("proportional", 20, 0.25), ("off", 1000, 1.0), ("paper", 5, 1.0), ("paper", 40, 1.0),
     ("paper", 100, 0.5)],
)  # fmt: skip
def test_delay_rules(rule: str, staleness: int, factor: float) -> None:
    """Above the threshold of 5: η 5 / τ, η itself, or min(η, 1 / τ), which cuts η = 0.02 from τ = 50 on."""
    steps = []
    for tau in (0, staleness):
        strategy = fadas(1, delay_threshold=5, delay_rule=rule)
        strategy.offer(Contribution(Delta(np.ones(7, np.float32)), 1, tau, "w"))
        steps.append(strategy.parameters.values[0])
    assert steps[1] / steps[0] == pytest.approx(factor, rel=1e-6)
