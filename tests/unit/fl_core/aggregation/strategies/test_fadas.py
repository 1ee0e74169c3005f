"""FADAS is the paper's AMSGrad on the mean of a buffer, slower after very stale ones."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.errors import CampaignError
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


def rate_of(rule: str, oldest: int, threshold: int) -> float:
    """η_τ as each rule has it."""
    if rule == "off" or oldest <= threshold:
        return RATE
    return {"inverse": RATE / oldest, "proportional": RATE * threshold / oldest, "paper": min(RATE, 1 / oldest)}[rule]


def reference(
    rows: Rows, staleness: list[int], buffer_size: int, threshold: int, rule: str, *, corrected: bool
) -> npt.NDArray[np.float64]:
    """The algorithm in float64: the paper's, or with the bias correction of the authors' program."""
    x, m, v, largest = np.zeros(7), np.zeros(7), np.zeros(7), np.zeros(7)
    for step, start in enumerate(range(0, len(rows) - buffer_size + 1, buffer_size), start=1):
        mean = rows[start : start + buffer_size].astype(np.float64).mean(axis=0)
        m = BETA1 * m + (1 - BETA1) * mean
        v = BETA2 * v + (1 - BETA2) * mean**2
        largest = np.maximum(largest, v)
        bias1, bias2 = (1 - BETA1**step, 1 - BETA2**step) if corrected else (1.0, 1.0)
        rate = rate_of(rule, max(staleness[start : start + buffer_size]), threshold)
        x += rate * (m / bias1) / (np.sqrt(largest / bias2) + EPSILON)
    return x


@given(
    staleness=st.lists(st.integers(0, 120), min_size=1, max_size=12),
    buffer_size=st.integers(1, 4),
    threshold=st.integers(1, 10),
    rule=st.sampled_from(["inverse", "proportional", "paper", "off"]),
    corrected=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_steps_are_the_algorithms(
    staleness: list[int], buffer_size: int, threshold: int, rule: str, corrected: bool, seed: int
) -> None:
    """Against a float64 loop; the rate sees the largest staleness of each buffer, whatever the rule."""
    rows = np.random.default_rng(seed).normal(size=(len(staleness), 7)).astype(np.float32)
    strategy = fadas(buffer_size, delay_threshold=threshold, delay_rule=rule, bias_correction=corrected)
    for row, tau in zip(rows, staleness, strict=True):
        strategy.offer(Contribution(Delta(row), 7, tau, "w"))
    expected = reference(rows, staleness, buffer_size, threshold, rule, corrected=corrected)
    np.testing.assert_allclose(strategy.parameters.values, expected, rtol=1e-4, atol=1e-6)


@given(staleness=st.lists(st.integers(0, 40), min_size=1, max_size=12), seed=st.integers(0, 2**32 - 1))
def test_the_default_rule_and_threshold_are_the_authors_programs(staleness: list[int], seed: int) -> None:
    """η / τ_max wherever the largest staleness is above 1."""
    rows = np.random.default_rng(seed).normal(size=(len(staleness), 7)).astype(np.float32)
    strategy = fadas(1)
    for row, tau in zip(rows, staleness, strict=True):
        strategy.offer(Contribution(Delta(row), 7, tau, "w"))
    expected = reference(rows, staleness, 1, threshold=1, rule="inverse", corrected=False)
    np.testing.assert_allclose(strategy.parameters.values, expected, rtol=1e-4, atol=1e-6)


def test_without_delay_and_with_bias_correction_it_is_torchs_amsgrad() -> None:
    """The bias correction of the authors' program is that of torch's own AMSGrad, step by step."""
    import torch

    rows = np.random.default_rng(3).normal(size=(6, 7)).astype(np.float32)
    strategy = fadas(1, bias_correction=True)
    parameter = torch.nn.Parameter(torch.zeros(7, dtype=torch.float64))
    adam = torch.optim.Adam([parameter], lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, amsgrad=True)
    for row in rows:
        strategy.offer(Contribution(Delta(row), 1, 0, "w"))
        parameter.grad = torch.from_numpy(-row.astype(np.float64))
        adam.step()
        np.testing.assert_allclose(strategy.parameters.values, parameter.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_a_checkpoint_of_other_defaults_is_refused() -> None:
    """One of an earlier release did not say its rule: it goes on where the spec says it, and nowhere else."""
    strategy = fadas(1)
    strategy.offer(Contribution(Delta(np.ones(7, np.float32)), 1, 3, "w"))
    tensors, meta = strategy.export_state()
    fadas(1).restore_state(tensors, meta)
    meta = {**meta, "moments": {}}
    del meta["args"]
    with pytest.raises(CampaignError, match=r"another default of aggregation\.args\.delay_threshold; resume with that"):
        fadas(1).restore_state(tensors, meta)
    resumed = fadas(1, delay_threshold=10, delay_rule="proportional")
    resumed.restore_state(tensors, meta)
    assert resumed.version == 1
