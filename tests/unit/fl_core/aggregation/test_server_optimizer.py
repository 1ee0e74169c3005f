"""Each server optimizer is its published rule on minus the mean delta, and resumes to the same bits."""

import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation.optimizer.rules import SGD, server_rule
from fl_core.aggregation.optimizer.server_optimizer import ServerOptimizer
from fl_core.errors import CampaignError
from fl_core.spec import ServerOptimizerSection
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

SIZE, STEPS = 11, 6
LAYOUT = Layout((TensorSpec("w", (SIZE,)),))
SECTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "learning_rate": 0.7},
    "momentum": {"name": "sgd", "learning_rate": 0.3, "momentum": 0.9},
    "adam": {"name": "adam", "learning_rate": 0.05},
    "amsgrad": {"name": "adam", "learning_rate": 0.05, "amsgrad": True, "beta2": 0.5},
    "adagrad": {"name": "adagrad", "learning_rate": 0.05},
    "yogi": {"name": "yogi", "learning_rate": 0.05, "beta2": 0.9},
    "fedadam": {"name": "fedadam", "learning_rate": 0.05, "epsilon": 0.3},
    "fedadagrad": {"name": "fedadagrad", "learning_rate": 0.05, "epsilon": 0.3},
}
PUBLISHED = ("yogi", "fedadam", "fedadagrad")
Array = npt.NDArray[np.float64]


def section(rule: str) -> ServerOptimizerSection:
    """The spec's section of a rule."""
    return ServerOptimizerSection(**SECTIONS[rule])


def optimizer_of(rule: str, layout: Layout = LAYOUT) -> ServerOptimizer:
    """The rule at work."""
    return ServerOptimizer(server_rule(section(rule)), layout)


def means(seed: int = 0, size: int = SIZE) -> npt.NDArray[np.float32]:
    """Mean deltas that shrink, so that Adam's and Yogi's second moments go different ways."""
    shrink = 0.5 ** np.arange(STEPS)[:, None]
    return (np.random.default_rng(seed).normal(size=(STEPS, size)) * shrink).astype(np.float32)


def start(size: int = SIZE) -> Parameters:
    """The same parameters each time."""
    return Parameters(np.random.default_rng(99).normal(size=size).astype(np.float32))


def reference(rule: str, x: Array, deltas: Array) -> Array:
    """The rules in float64, with g = -delta: torch's, with Adam's bias correction, and algorithm 2's, from v = ε²."""
    return follow(section(rule), x, deltas, rule)


def follow(spec: ServerOptimizerSection, x: Array, deltas: Array, rule: str) -> Array:
    """The same, for any constants."""
    rate, b1, b2, eps = spec.learning_rate, spec.beta1, spec.beta2, spec.epsilon
    m, v, v_max = np.zeros_like(x), np.full_like(x, eps**2 if rule in PUBLISHED else 0.0), np.zeros_like(x)
    for step, g in enumerate(-deltas, start=1):
        if rule == "sgd":
            x = x - rate * g
        elif rule == "momentum":
            m = spec.momentum * m + g
            x = x - rate * m
        elif rule == "adagrad":
            v = v + g**2
            x = x - rate * g / (np.sqrt(v) + eps)
        elif rule in PUBLISHED:
            m = b1 * m + (1 - b1) * g
            v = {
                "yogi": v - (1 - b2) * g**2 * np.sign(v - g**2),
                "fedadam": b2 * v + (1 - b2) * g**2,
                "fedadagrad": v + g**2,
            }[rule]
            x = x - rate * m / (np.sqrt(v) + eps)
        else:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
            v_max = np.maximum(v_max, v) if rule == "amsgrad" else v
            x = x - rate * (m / (1 - b1**step)) / (np.sqrt(v_max / (1 - b2**step)) + eps)
    return x


@pytest.mark.parametrize("rule", SECTIONS)
def test_rule_is_the_published_one(rule: str) -> None:
    """Several steps agree with the formula in float64."""
    x, deltas = start(), means()
    expected = reference(rule, x.values.astype(np.float64), deltas.astype(np.float64))
    optimizer = optimizer_of(rule)
    memory = x.values.ctypes.data
    for delta in deltas:
        optimizer.step(x, Delta(delta.copy()))
    np.testing.assert_allclose(x.values, expected, rtol=1e-5, atol=1e-6)
    assert x.values.ctypes.data == memory


@pytest.mark.parametrize("rule", PUBLISHED)
@given(
    rate=st.floats(1e-3, 10), beta1=st.floats(0, 0.99), beta2=st.floats(0, 0.999), epsilon=st.floats(1e-3, 10),
    num_steps=st.integers(1, 8), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_algorithm_2_with_any_constants(
    rule: str, rate: float, beta1: float, beta2: float, epsilon: float, num_steps: int, seed: int
) -> None:
    """FedAdagrad, FedAdam and FedYogi agree with algorithm 2 of Reddi et al. in float64, for all that may be set."""
    betas = {"beta1": beta1, **({} if rule == "fedadagrad" else {"beta2": beta2})}
    spec = ServerOptimizerSection(name=rule, learning_rate=rate, epsilon=epsilon, **betas)  # type: ignore[arg-type]
    # Not far from 0, where the sign of v - g² hangs on the last bit.
    random = np.random.default_rng(seed)
    deltas = (random.uniform(0.5, 2, size=(num_steps, SIZE)) * random.choice([-1, 1], SIZE)).astype(np.float32)
    x = start()
    expected = follow(spec, x.values.astype(np.float64), deltas.astype(np.float64), rule)
    optimizer = ServerOptimizer(server_rule(spec), LAYOUT)
    for delta in deltas:
        optimizer.step(x, Delta(delta.copy()))
    np.testing.assert_allclose(x.values, expected, rtol=2e-4, atol=2e-4 * rate)


def test_the_rules_differ_here() -> None:
    """The deltas of these tests tell each rule from every other, so the reference could fail."""
    x, deltas = start().values.astype(np.float64), means().astype(np.float64)
    results = [reference(rule, x, deltas) for rule in SECTIONS]
    for number, one in enumerate(results):
        assert all(np.abs(one - other).max() > 1e-3 for other in results[:number])


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_plain_sgd_equals_torch(rate: float) -> None:
    """The blocked kernel gives what torch.optim.SGD gives: to the bit at rate 1, to the last place otherwise."""
    layout = Layout((TensorSpec("w", (100_003,)),))
    x = start(100_003)
    parameter = torch.nn.Parameter(torch.from_numpy(x.values.copy()))
    torch_sgd = torch.optim.SGD([parameter], lr=rate)
    optimizer = ServerOptimizer(SGD(rate), layout)
    for delta in means(size=100_003):
        optimizer.step(x, Delta(delta.copy()))
        parameter.grad = torch.from_numpy(-delta)
        torch_sgd.step()
    expected = parameter.detach().numpy()
    if rate == 1.0:
        np.testing.assert_array_equal(x.values, expected)
    np.testing.assert_allclose(x.values, expected, rtol=1e-6, atol=1e-6)


def test_plain_sgd_does_not_import_torch() -> None:
    """The default server optimizer works on a machine where torch was never imported."""
    code = """
import sys, numpy as np
from fl_core.aggregation.optimizer.server_optimizer import ServerOptimizer
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec
from fl_core.aggregation.optimizer.rules import SGD
from fl_core.vectors import Delta, Parameters
optimizer = ServerOptimizer(SGD(), Layout((TensorSpec("w", (2,)),)))
optimizer.step(Parameters(np.zeros(2, np.float32)), Delta(np.ones(2, np.float32)))
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("rule", SECTIONS)
def test_mean_delta_comes_back_unchanged(rule: str) -> None:
    """A step leaves the mean delta's bits as they were."""
    delta = means()[0]
    optimizer_of(rule).step(start(), Delta(given := delta.copy()))
    np.testing.assert_array_equal(given.view(np.uint32), delta.view(np.uint32))


@pytest.mark.parametrize("rule", SECTIONS)
@pytest.mark.parametrize("pause", [0, 1, 3])
def test_restored_state_continues_to_the_same_bits(rule: str, pause: int) -> None:
    """Export, copy, restore into a new optimizer, even a used one: the rest of the steps give the same bits."""
    deltas = means()
    straight = start()
    optimizer = optimizer_of(rule)
    for delta in deltas:
        optimizer.step(straight, Delta(delta.copy()))

    first, x = optimizer_of(rule), start()
    for delta in deltas[:pause]:
        first.step(x, Delta(delta.copy()))
    tensors, meta = first.export_state()
    saved = {name: array.copy() for name, array in tensors.items()}
    resumed = optimizer_of(rule)
    resumed.step(start(), Delta(means(seed=5)[0]))
    resumed.restore_state(saved, meta)
    for array in saved.values():
        array[:] = np.nan  # the optimizer must have its own copy
    for delta in deltas[pause:]:
        resumed.step(x, Delta(delta.copy()))
    np.testing.assert_array_equal(x.values.view(np.uint32), straight.values.view(np.uint32))


@pytest.mark.parametrize("rule", [rule for rule in SECTIONS if rule != "sgd"])
def test_exported_arrays_are_views_of_model_size(rule: str) -> None:
    """What is exported is the optimizer's own memory, float32, one element per trainable one, and plain values."""
    optimizer, x = optimizer_of(rule), start()
    optimizer.step(x, Delta(means()[0]))
    tensors, meta = optimizer.export_state()
    assert tensors
    assert all(array.shape == (SIZE,) and array.dtype == np.float32 for array in tensors.values())
    before = {name: array.copy() for name, array in tensors.items()}
    optimizer.step(x, Delta(means()[1]))
    assert any((array != before[name]).any() for name, array in tensors.items())
    assert all(type(value) in (str, int) for value in meta.values())


@pytest.mark.parametrize("rule", SECTIONS)
def test_bits_do_not_depend_on_the_number_of_threads(rule: str) -> None:
    """One thread and several give the same bits, on a vector long enough to be shared out."""
    layout = Layout((TensorSpec("w", (200_003,)),))
    deltas = means(size=200_003)
    results = []
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            optimizer, x = optimizer_of(rule, layout), start(200_003)
            for delta in deltas:
                optimizer.step(x, Delta(delta.copy()))
            results.append(x.values.view(np.uint32))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


def test_state_of_another_optimizer_is_refused() -> None:
    """A checkpoint of another rule or size is the operator's error."""
    adam = optimizer_of("adam")
    adam.step(start(), Delta(means()[0]))
    tensors, meta = adam.export_state()
    with pytest.raises(CampaignError, match="'adam', the spec says 'yogi'"):
        optimizer_of("yogi").restore_state(tensors, meta)
    with pytest.raises(CampaignError, match="trainable elements"):
        optimizer_of("adam", Layout((TensorSpec("w", (2,)),))).restore_state(tensors, meta)
    momentum = optimizer_of("momentum")
    momentum.step(start(), Delta(means()[0]))
    with pytest.raises(CampaignError, match="server_optimizer"):
        optimizer_of("sgd").restore_state(*momentum.export_state())
