"""FedAsync mixes each device's parameters in, less the staler they are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Merge, Strategy, build_strategy
from fl_core.errors import InvariantError, SpecError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (3,)), TensorSpec("v", (2,))))
SIZE = LAYOUT.num_elements


def fedasync(initial: Any = (1.0,) * SIZE, aggregation: dict[str, Any] | None = None, **sections: Any) -> Strategy:
    """A FedAsync strategy that starts from ``initial``."""
    settings = {"strategy": "fedasync", **(aggregation or {})}
    spec = parse_spec({"model": {"factory": "m:f"}, "aggregation": settings, **sections})
    return build_strategy(spec, LAYOUT, Parameters(np.array(initial, np.float32)))


@given(
    staleness=st.lists(st.integers(0, 50), min_size=1, max_size=10),
    mixing=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_update_is_mixed_in_with_fresh_alpha(staleness: list[int], mixing: float, seed: int) -> None:
    """Against a float64 loop: x <- (1 - α_τ) x + α_τ x_new with α_τ = α (1 + τ)^-0.5, one version per update."""
    strategy = fedasync(aggregation={"mixing": mixing})
    local = np.abs(np.random.default_rng(seed).normal(size=(len(staleness), SIZE))).astype(np.float32)
    x = np.ones(SIZE)
    for version, (x_new, tau) in enumerate(zip(local, staleness, strict=True), start=1):
        alpha = mixing / np.sqrt(1.0 + tau)
        x = (1.0 - alpha) * x + alpha * x_new
        merge = strategy.offer(Contribution(Parameters(x_new), 7, tau, "w"))
        assert merge is not None
        assert (merge.version, merge.num_updates, merge.staleness) == (version, 1, (tau,))
        assert merge.weights == pytest.approx((alpha,), rel=1e-14)
    np.testing.assert_allclose(strategy.parameters.values, x, rtol=1e-5, atol=1e-6)


def test_alpha_one_takes_the_fresh_parameters() -> None:
    """With α = 1 and no staleness the device's parameters become the version."""
    strategy = fedasync(aggregation={"mixing": 1.0})
    assert strategy.offer(Contribution(Parameters(np.full(SIZE, 5.0, np.float32)), 1, 0, "w")) == Merge(
        1, 1, (0,), (1.0,)
    )
    assert strategy.parameters.values.tolist() == [5.0] * SIZE


def test_nothing_ever_waits() -> None:
    """There is no barrier, no buffer and nothing to flush."""
    strategy = fedasync()
    assert strategy.sends == "parameters"
    assert not strategy.barrier
    strategy.offer(Contribution(Parameters(np.ones(SIZE, np.float32)), 1, 0, "w"))
    assert strategy.buffer_count == 0
    assert strategy.flush() is None
    assert strategy.version == 1


def test_a_delta_is_refused() -> None:
    """A delta is never mixed with a model, and changes nothing."""
    strategy = fedasync()
    with pytest.raises(InvariantError, match="merges parameters"):
        strategy.offer(Contribution(Delta(np.zeros(SIZE, np.float32)), 1, 0, "w"))
    assert strategy.version == 0
    assert strategy.parameters.values.tolist() == [1.0] * SIZE


@pytest.mark.parametrize(
    "sections",
    [{"server_optimizer": {"name": "adam"}}, {"server_optimizer": {"learning_rate": 0.5}}],
)
def test_a_server_optimizer_is_refused(sections: dict[str, Any]) -> None:
    """A server optimizer that would not be applied is an error of the spec, with the remedy."""
    with pytest.raises(SpecError, match=r"aggregation\.mixing"):
        fedasync(**sections)


def test_example_weighting_is_refused() -> None:
    """A setting that would be ignored is an error of the spec."""
    with pytest.raises(SpecError, match="example_weighting"):
        fedasync(aggregation={"example_weighting": True})
