"""FedBuff is the paper's formula, and becomes sequential application or FedAvg where it must."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Merge, Strategy, build_strategy
from fl_core.errors import InvariantError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (3,)), TensorSpec("v", (2,))))
SIZE = LAYOUT.num_elements
# n_i, τ_i
updates = st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 50)), min_size=1, max_size=12)
seeds = st.integers(0, 2**32 - 1)


def build(aggregation: dict[str, Any], learning_rate: float = 1.0) -> Strategy:
    """A strategy that starts from ones."""
    spec = parse_spec(
        {
            "model": {"factory": "m:f"},
            "aggregation": aggregation,
            "server_optimizer": {"learning_rate": learning_rate},
        }
    )
    return build_strategy(spec, LAYOUT, Parameters(np.ones(SIZE, np.float32)))


def small_deltas(seed: int, count: int) -> npt.NDArray[np.float32]:
    """Deltas that are small beside the parameters."""
    return (np.random.default_rng(seed).uniform(-1, 1, size=(count, SIZE)) * 0.05).astype(np.float32)


@given(updates=updates, seed=seeds, buffer_size=st.integers(1, 5), by_examples=st.booleans())
def test_merges_follow_the_formula(
    updates: list[tuple[int, int]], seed: int, buffer_size: int, by_examples: bool
) -> None:
    """Against float64 loops: every K-th update merges η Σ s(τ) Δ / K, or η Σ s(τ) n Δ / Σ n; a flush takes the rest."""
    rate = 0.5
    strategy = build({"buffer_size": buffer_size, "example_weighting": by_examples}, rate)
    x, version = np.ones(SIZE), 0
    pending: list[tuple[npt.NDArray[np.float32], int, int]] = []
    deltas = small_deltas(seed, len(updates))

    def merged() -> None:
        nonlocal x
        mean = np.zeros(SIZE)
        for delta, n, tau in pending:
            mean += (1 + tau) ** -0.5 * (n if by_examples else 1) * delta.astype(np.float64)
        # Fewer than K, at the end, take the part of a step that they are of a full buffer.
        mean *= len(pending) / buffer_size
        mean /= sum(n for _, n, _ in pending) if by_examples else len(pending)
        x = x + rate * mean
        pending.clear()

    for delta, (n, tau) in zip(deltas, updates, strict=True):
        pending.append((delta, n, tau))
        merge = strategy.offer(Contribution(Delta(delta), n, tau, "w"))
        assert (merge is not None) == (len(pending) == buffer_size)
        if merge is not None:
            version += 1
            assert (merge.version, merge.num_updates) == (version, buffer_size)
            assert merge.staleness == tuple(tau for _, _, tau in pending)
            merged()
        assert strategy.buffer_count == len(pending)
        assert strategy.version == version
    merge = strategy.flush()
    assert (merge is not None) == bool(pending)
    if pending:
        merged()
    np.testing.assert_allclose(strategy.parameters.values, x, rtol=1e-5, atol=1e-6)


@given(updates=updates, seed=seeds)
def test_buffer_of_one_with_constant_weight_is_sequential_application(
    updates: list[tuple[int, int]], seed: int
) -> None:
    """K = 1 and s = 1: the deltas are added one after the other, to the bit."""
    strategy = build({"buffer_size": 1, "staleness": "constant"})
    x = np.ones(SIZE, np.float32)
    for delta, (n, tau) in zip(small_deltas(seed, len(updates)), updates, strict=True):
        assert strategy.offer(Contribution(Delta(delta), n, tau, "w")) is not None
        x = x + delta
    np.testing.assert_array_equal(strategy.parameters.values.view(np.uint32), x.view(np.uint32))


@given(seed=seeds, count=st.integers(1, 12), num_examples=st.integers(1, 1000))
def test_all_fresh_and_equal_is_fedavg(seed: int, count: int, num_examples: int) -> None:
    """Fresh updates, K = all of them and equal examples: FedBuff's version is FedAvg's."""
    fedbuff, fedavg = build({"buffer_size": count}), build({"strategy": "fedavg"})
    for delta in small_deltas(seed, count):
        fedbuff.offer(Contribution(Delta(delta), num_examples, 0, "w"))
        fedavg.offer(Contribution(Delta(delta), num_examples, 0, "w"))
    fedavg.flush()
    assert fedbuff.version == fedavg.version == 1
    np.testing.assert_allclose(fedbuff.parameters.values, fedavg.parameters.values, rtol=1e-6)


@given(seed=seeds, examples=st.lists(st.integers(1, 1000), min_size=1, max_size=12))
def test_example_weighting_of_fresh_updates_is_fedavg(seed: int, examples: list[int]) -> None:
    """Fresh updates, K = all of them and example weighting: FedAvg's bits, whatever the examples."""
    fedbuff = build({"buffer_size": len(examples), "example_weighting": True})
    fedavg = build({"strategy": "fedavg"})
    for delta, num_examples in zip(small_deltas(seed, len(examples)), examples, strict=True):
        fedbuff.offer(Contribution(Delta(delta), num_examples, 0, "w"))
        fedavg.offer(Contribution(Delta(delta), num_examples, 0, "w"))
    fedavg.flush()
    np.testing.assert_array_equal(fedbuff.parameters.values, fedavg.parameters.values)


def test_it_divides_by_k_and_not_by_the_sum_of_weights() -> None:
    """Equally stale updates make a step that is shorter by s(τ)."""
    strategy = build({"buffer_size": 2})
    for _ in range(2):
        merge = strategy.offer(Contribution(Delta(np.ones(SIZE, np.float32)), 1, 3, "w"))
    assert merge == Merge(1, 2, (3, 3), (0.5, 0.5))
    assert strategy.parameters.values.tolist() == [1.5] * SIZE


def test_parameters_are_refused() -> None:
    """Parameters are never added to a model."""
    strategy = build({"buffer_size": 1})
    with pytest.raises(InvariantError, match="merges deltas"):
        strategy.offer(Contribution(Parameters(np.ones(SIZE, np.float32)), 1, 0, "w"))
    assert strategy.version == 0


def test_an_offered_delta_is_neither_kept_nor_changed() -> None:
    """The sender's memory can be reused as soon as offer returns."""
    strategy = build({"buffer_size": 2, "staleness": "constant"})
    delta = np.ones(SIZE, np.float32)
    delta.flags.writeable = False
    strategy.offer(Contribution(Delta(delta), 1, 0, "w"))
    delta.flags.writeable = True
    delta[:] = 3.0
    strategy.offer(Contribution(Delta(delta), 1, 0, "w"))
    assert delta.tolist() == [3.0] * SIZE
    assert strategy.parameters.values.tolist() == [3.0] * SIZE
