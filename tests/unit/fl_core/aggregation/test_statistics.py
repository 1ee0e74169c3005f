"""A model's statistics move towards what devices measured, and never beyond it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.aggregation import Contribution, Strategy, build_strategy
from fl_core.aggregation.statistics import Statistics, unfit
from fl_core.aggregation.whole_model import CONSTANTS
from fl_core.codecs.model_payload import ModelState
from fl_core.errors import CampaignError
from fl_core.spec import parse_spec
from fl_core.vectors import Delta, FloatArray, Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout(
    (
        TensorSpec("w", (4,)),
        TensorSpec("norm.running_mean", (2,), role="mean"),
        TensorSpec("norm.running_var", (2,), role="mean"),
        TensorSpec("u", (2,), role="latest"),
        TensorSpec("mask", (2,), role="constant"),
    )
)
FRESH = np.array([1, 2, 3, 4, 0, 0, 1, 1, 7, 7, 0, -np.inf], np.float32)
updates = st.lists(st.tuples(st.floats(-100, 100, width=32), st.integers(0, 50)), min_size=1, max_size=12)


def _state(value: float, latest: bool = True) -> ModelState:
    means = np.array([value, -value, abs(value), 2 * abs(value)], np.float32)
    return ModelState(means, {0: np.array([value, value + 1], np.float32)} if latest else {})


def _build(strategy: str = "fedbuff", values: FloatArray = FRESH, **keys: Any) -> Strategy:
    sections = {"server_optimizer": {"learning_rate": 0.1}} if strategy == "fadas" else {}
    document = {"model": {"factory": "m:f"}, "aggregation": {"strategy": strategy, **keys}, **sections}
    return build_strategy(parse_spec(document), LAYOUT, Parameters(values))


def _offer(strategy: Strategy, value: float, staleness: int = 0) -> Any:
    vector = Delta if strategy.sends == "delta" else Parameters
    weights = vector(np.full(4, 0.25, np.float32))
    return strategy.offer(Contribution(weights, 3, staleness, "w", state=_state(value)))


@given(updates, st.floats(0.05, 1), st.integers(1, 4), st.booleans())
def test_it_is_the_formula(updates: list[tuple[float, int]], rate: float, size: int, measured: bool) -> None:
    """Against float64 loops, from a new layer and from one that was measured before."""
    values = FRESH.copy()
    if measured:
        values[4:8] = [5, -5, 3, 9]
    statistics = Statistics(LAYOUT, values, rate=rate)
    expected, known = values[4:8].astype(np.float64), float(measured)
    for start in range(0, len(updates), size):
        group = updates[start : start + size]
        weights = [(1 + tau) ** -0.5 for _, tau in group]
        for (value, tau), weight in zip(group, weights, strict=True):
            statistics.add(_state(value), worker="w", weight=weight, staleness=tau)
        statistics.merge()
        mean = sum(s * _state(v).means.astype(np.float64) for s, (v, _) in zip(weights, group, strict=True)) / sum(
            weights
        )
        step = 1 - np.prod([1 - rate * weight for weight in weights])
        known = (1 - step) * known + step
        expected += step / known * (mean - expected)
        freshest = min(tau for _, tau in group)
        latest = [value for value, tau in group if tau == freshest][-1]
        assert values[8:10].tolist() == _state(latest).latest[0].tolist()
    np.testing.assert_allclose(values[4:8], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(values[10:], FRESH[10:])


@pytest.mark.parametrize("strategy", ["fedbuff", "fedasync", "ca2fl", "fadas", "asyncfeded", "attention", "robust"])
@given(updates=updates, buffer_size=st.integers(1, 5))
def test_no_staleness_takes_statistics_out_of_what_was_measured(
    strategy: str, updates: list[tuple[float, int]], buffer_size: int
) -> None:
    """Whatever the strategy merges, means stay between the least and the largest that a device has sent and variances
    above 0; constants keep their bits, and codecs' business is the weights alone."""
    keys: dict[str, Any] = {} if strategy in ("fedasync", "asyncfeded") else {"buffer_size": buffer_size}
    model = _build(
        strategy, **keys, **({"args": {"rule": "median", "num_byzantine": 0}} if strategy == "robust" else {})
    )
    merged = [_offer(model, value, tau) for value, tau in updates]
    if any(merged):
        values = model.parameters.values
        sent = np.stack([_state(value).means for value, _ in updates])
        slack = 1e-5 * np.abs(sent).max() + 1e-6
        assert (values[4:8] >= sent.min(axis=0) - slack).all()
        assert (values[4:8] <= sent.max(axis=0) + slack).all()
        assert (values[6:8] >= -slack).all()
    np.testing.assert_array_equal(model.parameters.values[10:], FRESH[10:])


@pytest.mark.parametrize("strategy", ["fedbuff", "fedavg", "ca2fl", "robust", "fedasync"])
def test_a_restored_model_goes_on_to_the_same_bits(strategy: str) -> None:
    """Exported in the middle of a buffer and restored, it comes to the same as one that went on; what is exported lies
    where the model lies."""
    model, copy = _build(strategy), _build(strategy)
    for value in (1.5, -3.0, 2.25):
        _offer(model, value, 0 if strategy == "fedavg" else 2)
    tensors, meta = model.export_state()
    copy.restore_state({name: np.array(array) for name, array in tensors.items()}, meta)
    for one in (model, copy):
        _offer(one, 9.0)
        one.flush()
    np.testing.assert_array_equal(copy.parameters.values, model.parameters.values)
    assert copy.version == model.version
    tensors, meta = copy.export_state()
    beside = np.concatenate((tensors["state"], tensors.pop(CONSTANTS)))
    model.restore_state({**tensors, "state": beside}, meta)  # as the release before has it
    np.testing.assert_array_equal(copy.parameters.values, model.parameters.values)
    with pytest.raises(CampaignError, match="took buffers for weights"):
        copy.restore_state(tensors, {key: value for key, value in meta.items() if key != "statistics"})


@given(st.lists(st.integers(0, 4), max_size=30), st.floats(-(2.0**90), 2.0**90, width=32))
def test_hostile_devices_do_not_move_a_robust_median(more: list[int], hostile: float) -> None:
    """Under strategy robust each worker has one vote: two of five change nothing, however often they send, and of
    tensors that are taken whole the honest one is taken."""
    model = _build("robust", buffer_size=5, args={"rule": "median"})
    for worker in [number for number in more if number < 2] + [1, 2, 0, 3, 4]:
        state = _state(hostile if worker < 2 else 1.0)
        model.offer(Contribution(Delta(np.zeros(4, np.float32)), 1, 0, f"w{worker}", state=state))
    assert model.version == 1
    assert model.parameters.values[4:10].tolist() == [1.0, -1.0, 1.0, 2.0, 1.0, 2.0]


class Immutable(Strategy):
    """An author's strategy that replaces its parameters instead of changing them."""

    def __init__(self, layout: Layout, initial: Parameters) -> None:
        assert layout.num_elements == initial.values.size == 4, "it sees weights alone"
        super().__init__(layout, initial)

    def offer(self, contribution: Contribution) -> Any:
        from fl_core.aggregation import Merge

        self.parameters = Parameters(self.parameters.values + contribution.delta.values)
        self.version += 1
        return Merge(self.version, 1, (contribution.staleness,), (1.0,))

    def restore_state(self, tensors: Any, meta: Any) -> None:
        self.parameters, self.version = Parameters(np.array(tensors["parameters"])), meta["version"]


def test_a_strategy_that_replaces_its_parameters_is_followed() -> None:
    """The whole model has its weights after a merge, and after a restore."""
    name = f"{__name__}:Immutable"
    model, copy = _build(name), _build(name)
    _offer(model, 4.0)
    assert model.parameters.values[:6].tolist() == [1.25, 2.25, 3.25, 4.25, 4.0, -4.0]
    copy.restore_state(*model.export_state())
    np.testing.assert_array_equal(copy.parameters.values, model.parameters.values)


def test_what_cannot_be_taken_in_is_named() -> None:
    """NaN, infinities and negative variances of an untrusted device; infinite where the model is so itself is fine."""
    assert unfit(LAYOUT, _state(3.0), FRESH) is None
    for place, value, said in (
        (0, np.nan, "the buffer 'norm.running_mean' holds NaN or infinite values"),
        (3, -1e-3, "the variance 'norm.running_var' is below 0"),
    ):
        state = _state(3.0)
        state.means[place] = value
        assert said in (unfit(LAYOUT, state, FRESH) or "")
    extremes = ModelState(_state(3.0).means, {0: np.array([np.inf, -np.inf], np.float32)})
    assert "the buffer 'u' holds" in (unfit(LAYOUT, extremes, FRESH) or "")
    observing = FRESH.copy()
    observing[8:10] = [np.inf, -np.inf]
    assert unfit(LAYOUT, extremes, observing) is None
    assert unfit(LAYOUT, _state(3.0, latest=False), observing) is None
