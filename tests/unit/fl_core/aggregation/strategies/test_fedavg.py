"""FedAvg is the mean of the cohort's local parameters, weighted by examples."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Merge, Strategy, build_strategy
from fl_core.errors import InvariantError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (4,)), TensorSpec("v", (2,))))


def fedavg(initial: Any, **sections: Any) -> Strategy:
    """A FedAvg strategy that starts from ``initial``."""
    spec = parse_spec({"model": {"factory": "m:f"}, "aggregation": {"strategy": "fedavg"}, **sections})
    return build_strategy(spec, LAYOUT, Parameters(np.array(initial, np.float32)))


@given(examples=st.lists(st.integers(1, 10_000), min_size=1, max_size=9), seed=st.integers(0, 2**32 - 1))
def test_merge_is_the_example_weighted_mean_of_local_parameters(examples: list[int], seed: int) -> None:
    """With server rate 1 the new version is Σ n_i x_i / Σ n_i, the paper's formula, batch statistics included."""
    generator = np.random.default_rng(seed)
    base = generator.normal(size=6).astype(np.float32)
    base[4:] = np.abs(base[4:])
    local = generator.normal(size=(len(examples), 6)).astype(np.float32)
    local[:, 4:] = np.abs(local[:, 4:])
    strategy = fedavg(base)
    for x_i, n_i in zip(local, examples, strict=True):
        assert strategy.offer(Contribution(Delta(x_i - base), n_i, 0, "w")) is None
    merge = strategy.flush()
    expected = sum(n_i * x_i.astype(np.float64) for n_i, x_i in zip(examples, local, strict=True)) / sum(examples)
    np.testing.assert_allclose(strategy.parameters.values, expected, rtol=1e-4, atol=1e-5)
    assert merge == Merge(1, len(examples), (0,) * len(examples), tuple(float(n_i) for n_i in examples))


def test_it_waits_for_the_cohort() -> None:
    """Offers only buffer, flush merges what came, and an empty cohort changes nothing."""
    strategy = fedavg([0.0] * 6)
    assert strategy.barrier
    assert strategy.sends == "delta"
    assert strategy.flush() is None
    for _ in range(25):
        assert strategy.offer(Contribution(Delta(np.ones(6, np.float32)), 1, 0, "w")) is None
    assert (strategy.version, strategy.buffer_count) == (0, 25)
    assert strategy.parameters.values.tolist() == [0.0] * 6
    strategy.flush()
    assert (strategy.version, strategy.buffer_count) == (1, 0)
    assert strategy.flush() is None
    assert strategy.version == 1


def test_a_stale_update_is_a_bug() -> None:
    """Behind a barrier nothing can be stale."""
    with pytest.raises(InvariantError, match="staleness 1"):
        fedavg([0.0] * 6).offer(Contribution(Delta(np.ones(6, np.float32)), 1, 1, "w"))


def test_parameters_are_refused() -> None:
    """Parameters are never added to a model."""
    strategy = fedavg([0.0] * 6)
    with pytest.raises(InvariantError, match="merges deltas"):
        strategy.offer(Contribution(Parameters(np.ones(6, np.float32)), 1, 0, "w"))
    assert strategy.buffer_count == 0
