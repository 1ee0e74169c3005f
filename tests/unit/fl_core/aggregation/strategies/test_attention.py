"""Attention over a buffer: by data, quality and staleness, or layer by layer by how far an update moved."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.spec import parse_spec
from fl_core.vectors import BLOCK, Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("a", (3,)), TensorSpec("b", (2, 2)), TensorSpec("v", (2,))))
SIZE = LAYOUT.num_elements
Rows = npt.NDArray[np.float32]
seeds = st.integers(0, 2**32 - 1)
# n_i, loss_i, τ_i
updates = st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 8), st.integers(0, 40)), min_size=1, max_size=8)


def build(strategy: str, buffer_size: int, layout: Layout = LAYOUT, **args: Any) -> Strategy:
    """A strategy that starts from zeros."""
    document = {
        "model": {"factory": "m:f"},
        "aggregation": {"strategy": strategy, "buffer_size": buffer_size, "args": args},
    }
    return build_strategy(parse_spec(document), layout, Parameters(np.zeros(layout.num_elements, np.float32)))


def deltas(count: int, seed: int, size: int = SIZE) -> Rows:
    """Some updates."""
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The textbook's."""
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


@given(
    updates=updates,
    weights=st.tuples(*[st.floats(0, 3)] * 3),
    temperature=st.floats(0.05, 20),
    seed=seeds,
)
def test_attention_is_the_softmax_of_the_scores(
    updates: list[tuple[int, float, int]], weights: tuple[float, float, float], temperature: float, seed: int
) -> None:
    """Against float64: α = softmax((a log n - b loss + c log s) / T), and the step is Σ α Δ."""
    rows = deltas(len(updates), seed)
    names = ("data_weight", "quality_weight", "staleness_weight")
    strategy = build("attention", len(updates), temperature=temperature, **dict(zip(names, weights, strict=True)))
    scores = [
        weights[0] * math.log(n) - weights[1] * loss - weights[2] * 0.5 * math.log1p(tau) for n, loss, tau in updates
    ]
    merge = None
    for row, (n, loss, tau) in zip(rows, updates, strict=True):
        merge = strategy.offer(Contribution(Delta(row), n, tau, "w", {"loss": loss}))
    alpha = softmax(np.array(scores) / temperature)
    assert merge is not None
    assert merge.weights == pytest.approx(tuple(alpha), rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(strategy.parameters.values, alpha @ rows.astype(np.float64), rtol=1e-4, atol=1e-5)


@given(updates=updates, seed=seeds)
def test_attention_to_data_alone_is_the_mean_by_examples(updates: list[tuple[int, float, int]], seed: int) -> None:
    """With only ``data_weight`` = 1 on fresh updates it is FedAvg; with no weight at all, the plain mean."""
    rows = deltas(len(updates), seed)
    by_data = build("attention", len(updates), quality_weight=0.0, staleness_weight=0.0)
    plain = build("attention", len(updates), data_weight=0.0, quality_weight=0.0, staleness_weight=0.0)
    fedavg = build("fedavg", 1)
    for row, (n, _, _) in zip(rows, updates, strict=True):
        for strategy in (by_data, plain, fedavg):
            strategy.offer(Contribution(Delta(row), n, 0, "w"))
    fedavg.flush()
    np.testing.assert_allclose(by_data.parameters.values, fedavg.parameters.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(plain.parameters.values, rows.mean(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [1, -1])
def test_scores_far_apart_neither_overflow_nor_lose_the_best(order: int) -> None:
    """At a tiny temperature the best update gets all, whether it comes first or last."""
    strategy = build("attention", 3, temperature=1e-3)
    for n in (10, 1000, 100_000)[::order]:
        strategy.offer(Contribution(Delta(np.full(SIZE, n, np.float32)), n, 0, "w", {"loss": 0.0}))
    assert strategy.parameters.values.tolist() == [100_000.0] * SIZE


def test_a_loss_is_taken_with_care() -> None:
    """A missing loss counts as the worst, one below 0 as 0, and one beyond ``max_loss`` as that."""
    merges = []
    for loss in ({}, {"loss": 1e9}, {"loss": -50.0}, {"loss": 0.0}):
        strategy = build("attention", 2, max_loss=4.0)
        strategy.offer(Contribution(Delta(np.ones(SIZE, np.float32)), 1, 0, "w", {"loss": 2.0}))
        merges.append(strategy.offer(Contribution(Delta(np.ones(SIZE, np.float32)), 1, 0, "w", loss)))
    assert merges[0] == merges[1]
    assert merges[2] == merges[3]
    assert merges[0] is not None
    assert merges[0].weights[1] == pytest.approx(1 / (1 + math.exp(2.0)), rel=1e-12)


FEDATT_LAYOUT = Layout(
    (*LAYOUT.tensors, TensorSpec("tall", (5, 2)), TensorSpec("kernel", (2, 3, 2, 2)), TensorSpec("c", ()))
)


def length(delta: npt.NDArray[np.float64], norm: str) -> float:
    """A tensor's norm, a matrix's by numpy's own definition of either."""
    if norm == "frobenius" or delta.ndim < 2:
        return float(np.linalg.norm(delta.ravel()))
    return float(np.linalg.norm(delta.reshape(len(delta), -1), ord=2))


@given(
    seed=seeds, count=st.integers(1, 6), temperature=st.floats(0.2, 10), taus=st.lists(st.integers(0, 30), min_size=6),
    norm=st.sampled_from(["frobenius", "spectral"]),
)  # fmt: skip
def test_fedatt_attends_layer_by_layer(seed: int, count: int, temperature: float, taus: list[int], norm: str) -> None:
    """Against float64: for each tensor α = softmax of the deltas' lengths / T, and the step is Σ α s(τ) Δ."""
    rows = deltas(count, seed, FEDATT_LAYOUT.num_elements)
    strategy = build("fedatt", count, FEDATT_LAYOUT, temperature=temperature, norm=norm)
    for row, tau in zip(rows, taus, strict=False):
        strategy.offer(Contribution(Delta(row), 5, tau, "w"))
    wide = rows.astype(np.float64)
    shrink = (1.0 + np.array(taus[:count])) ** -0.5
    expected = np.zeros(FEDATT_LAYOUT.num_elements)
    for tensor, where in zip(FEDATT_LAYOUT.tensors, FEDATT_LAYOUT.slices, strict=True):
        lengths = [length(row[where].reshape(tensor.shape), norm) for row in wide]
        alpha = softmax(np.array(lengths) / temperature)
        expected[where] = (alpha * shrink) @ wide[:, where]
    np.testing.assert_allclose(strategy.parameters.values, expected, rtol=1e-4, atol=1e-5)


@given(seed=seeds, count=st.integers(1, 6))
def test_fedatt_with_equal_distances_is_the_mean(seed: int, count: int) -> None:
    """Layers that every device moved equally far are averaged."""
    rows = deltas(count, seed)
    for where in LAYOUT.slices:
        rows[:, where] /= np.linalg.norm(rows[:, where], axis=1, keepdims=True)
    strategy = build("fedatt", count)
    for row in rows:
        strategy.offer(Contribution(Delta(row), 5, 0, "w"))
    np.testing.assert_allclose(strategy.parameters.values, rows.mean(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["attention", "fedatt"])
@given(seed=seeds)
def test_the_order_of_arrival_does_not_matter(name: str, seed: int) -> None:
    """Any order gives the same version, to float32's precision."""
    rows = deltas(5, seed)
    results = []
    for order in (range(5), np.random.default_rng(seed).permutation(5)):
        strategy = build(name, 5)
        for number in order:
            metrics = {"loss": float(number)}
            strategy.offer(Contribution(Delta(rows[number]), 1 + int(number), int(number), "w", metrics))
        results.append(strategy.parameters.values)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["attention", "fedatt"])
def test_a_flush_takes_the_part_of_a_step_that_it_is_of_a_full_buffer(name: str) -> None:
    """One of four makes a quarter of a step."""
    strategy = build(name, 4)
    strategy.offer(Contribution(Delta(np.ones(SIZE, np.float32)), 1, 0, "w"))
    assert strategy.flush() is not None
    assert strategy.parameters.values.tolist() == [0.25] * SIZE


def test_layers_may_lie_across_the_blocks_edges() -> None:
    """A model of several blocks, with tensors that begin and end inside them, gives the float64 result."""
    sizes = (BLOCK - 7, 0, 20, 2 * BLOCK + 5, 3)
    layout = Layout(tuple(TensorSpec(f"t{number}", (size,)) for number, size in enumerate(sizes)))
    rows = deltas(3, 1, layout.num_elements)
    strategy = build("fedatt", 3, layout, temperature=30.0)
    for row in rows:
        strategy.offer(Contribution(Delta(row), 1, 0, "w"))
    expected = np.concatenate(
        [softmax(np.linalg.norm(part := rows[:, w].astype(np.float64), axis=1) / 30.0) @ part for w in layout.slices]
    )
    np.testing.assert_allclose(strategy.parameters.values, expected, rtol=1e-4, atol=1e-5)


def test_attention_parameters_are_merged_with_the_model_by_examples() -> None:
    """The tensors of an attention layer get the mean by examples like any other: nothing has to be done for them."""
    from torch import nn

    model = nn.MultiheadAttention(8, 2)
    layout = Layout.of(model)
    rows = deltas(3, 2, layout.num_elements)
    examples = (10, 30, 60)
    document = {
        "model": {"factory": "m:f"}, "aggregation": {"buffer_size": 3, "example_weighting": True},
    }  # fmt: skip
    initial = layout.flatten(model)
    strategy = build_strategy(parse_spec(document), layout, initial)
    for row, n in zip(rows, examples, strict=True):
        strategy.offer(Contribution(Delta(row), n, 0, "w"))
    mean = np.array(examples) @ rows.astype(np.float64) / 100
    merged, before, step = (layout.to_named(Parameters(v)) for v in (strategy.parameters.values, initial.values, mean))
    assert {"in_proj_weight", "out_proj.weight"} <= set(merged)
    for name, values in merged.items():
        np.testing.assert_allclose(values, before[name] + step[name], rtol=1e-4, atol=1e-6)
