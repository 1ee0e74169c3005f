"""A strategy from plain arguments is the one that a spec with the same settings makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fedtide
from fedtide import SGD, FedBuff, Layout, Parameters, Strategy, WholeModel
from fedtide.testing import contributions
from fedtide.testing.strategies import replay
from fl_core.aggregation import build_strategy
from fl_core.aggregation.strategies import asyncfeded, attention, ca2fl, fadas, fedatt, fedbuff, robust
from fl_core.built_in import SERVER_OPTIMIZERS, STALENESS, STRATEGIES
from fl_core.errors import LayoutError, SpecError
from fl_core.factory import resolve
from fl_core.spec import ServerOptimizerSection, parse_spec
from fl_core.training.methods import per_fedavg, personal, soft_labels
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (3, 2)), TensorSpec("v", (2,))))
PLAIN = [name for name in STRATEGIES if name not in ("partial", "distillation")]  # these two need a method's parts


def initial(layout: Layout = LAYOUT) -> Parameters:
    """The same parameters each time."""
    return Parameters(np.linspace(-1, 1, layout.num_elements, dtype=np.float32))


def of_spec(name: str, **more: Any) -> Strategy:
    """What a spec makes that names the strategy and little else."""
    rate = {"learning_rate": 0.01} if name == "fadas" else {}
    sections = {"model": {"factory": "a:b"}, "aggregation": {"strategy": name}, "server_optimizer": rate}
    for section, values in more.items():
        sections[section] = {**sections.get(section, {}), **values}
    return build_strategy(parse_spec(sections), LAYOUT, initial())


def end(strategy: Strategy) -> tuple[Any, bytes]:
    """What a strategy comes to."""
    return replay(strategy, contributions(strategy, 25)), strategy.parameters.values.tobytes()


@pytest.mark.parametrize("name", PLAIN)
def test_the_defaults_are_those_of_a_spec(name: str) -> None:
    """The same merges and the same bits, from the class alone and by way of a spec."""
    made: Any = resolve(STRATEGIES[name], name)
    assert end(made(LAYOUT, initial())) == end(of_spec(name))


SETTINGS: list[tuple[Callable[..., Any], Any]] = [
    (fedbuff.FedBuff, fedbuff.FedBuffArgs), (attention.Attention, attention.AttentionArgs),
    (fedatt.FedAtt, fedatt.FedAttArgs), (ca2fl.CA2FL, ca2fl.CA2FLArgs), (fadas.Fadas, fadas.FadasArgs),
    (robust.Robust, robust.RobustArgs), (asyncfeded.AsyncFedED, asyncfeded.AsyncFedEDArgs),
    (personal.Personal, personal.PersonalArgs), (per_fedavg.PerFedAvg, per_fedavg.PerFedAvgArgs),
    *((resolve(path, name), ServerOptimizerSection) for name, path in SERVER_OPTIMIZERS.items()),
]  # fmt: skip


@pytest.mark.parametrize(("made", "section"), SETTINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_setting_has_one_default(made: Callable[..., Any], section: Any) -> None:
    """What an argument is without a word of the user's is what a spec's key is."""
    arguments = inspect.signature(made).parameters
    for name, field in section.model_fields.items():
        if name == "name" or (section is ServerOptimizerSection and name not in arguments):
            continue
        default = field.get_default(call_default_factory=True)
        # A spec without a number keeps as many versions as tasks are out, which are ten by default.
        assert arguments[name].default == (10 if name == "kept_versions" else default), name


def test_what_a_method_shares_with_its_strategy_has_one_default_too() -> None:
    """The method reads the half that concerns devices."""
    arguments = inspect.signature(soft_labels.Distillation).parameters
    for name in ("temperature", "local_steps_public"):
        assert arguments[name].default == soft_labels.DistillationArgs.model_fields[name].default


RATES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    *(
        (name, {}, {"server_optimizer": {"learning_rate": 0.25}})
        for name in ("fedavg", "fedbuff", "ca2fl", "attention")
    ),
    *((name, {}, {"server_optimizer": {"learning_rate": 0.25}}) for name in ("fedatt", "robust")),
    ("fadas", {}, {"server_optimizer": {"learning_rate": 0.0025}}),
    ("fedasync", {}, {"aggregation": {"mixing": 0.6 * 0.25}}),
    ("asyncfeded", {}, {"aggregation": {"mixing": 0.6 * 0.25}}),
    *(
        ("fedbuff", {"server_optimizer": {"name": name}}, {"server_optimizer": {"name": name, "learning_rate": 0.25}})
        for name in SERVER_OPTIMIZERS
    ),
    (
        "fedbuff",
        {"server_optimizer": {"momentum": 0.9}},
        {"server_optimizer": {"momentum": 0.9, "learning_rate": 0.25}},
    ),
]


@pytest.mark.parametrize(("name", "before", "slowed"), RATES)
def test_slowing_is_a_smaller_rate_from_the_start(name: str, before: Any, slowed: Any) -> None:
    """The guard's smaller rate gives the bits of a spec that says it."""
    strategy = of_spec(name, **before)
    strategy.slow(0.25)
    assert end(strategy) == end(of_spec(name, **slowed))
    again = of_spec(name, **before)
    assert end(again) != end(of_spec(name, **slowed)), "the rate makes a difference here"


def test_strategies_share_nothing() -> None:
    """Neither the parameters that they were given, nor the rule by which they step."""
    start, rule = initial(), SGD(1.0, momentum=0.9)
    one, other = (FedBuff(LAYOUT, start, buffer_size=2, optimizer=rule) for _ in range(2))
    before = start.values.copy()
    end(one)
    one.slow(0.5)
    np.testing.assert_array_equal(start.values, before)
    np.testing.assert_array_equal(other.parameters.values, before)
    assert end(other) == end(FedBuff(LAYOUT, start, buffer_size=2, optimizer=SGD(1.0, momentum=0.9)))


def test_a_model_with_buffers_has_a_strategy_around_its_weights() -> None:
    """A strategy of weights alone says so; with one around it, the model is whole."""
    layout = Layout((TensorSpec("w", (3,)), TensorSpec("running_mean", (1,), role="mean")))
    with pytest.raises(LayoutError, match=r"this layout has 4 elements of which 3 are trained: put fedtide.WholeModel"):
        FedBuff(layout, initial(layout))
    whole = WholeModel(lambda weights, start: FedBuff(weights, start, buffer_size=1), layout, initial(layout))
    replay(whole, contributions(whole, 2))
    assert (whole.version, whole.inner.version) == (2, 2)
    np.testing.assert_array_equal(whole.parameters.values[:3], whole.inner.parameters.values)
    assert np.shares_memory(whole.parameters.values, whole.inner.parameters.values)


def test_any_function_is_a_staleness_weight() -> None:
    """The built-in ones are functions like any other."""
    for name, path in STALENESS.items():
        assert resolve(path, name)()(0) == 1.0
    halved = FedBuff(LAYOUT, initial(), buffer_size=1, staleness=lambda staleness: 0.5**staleness)
    (merge,) = replay(halved, [fedtide.Contribution(fedtide.Delta(np.ones(8, np.float32)), staleness=2)])
    assert merge.weights == (0.25,)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SGD(0.0), "SGD(learning_rate=0.0) is not accepted; give a number above 0."),
        (lambda: SGD(1.0, momentum=1.0), "SGD(momentum=1.0) is not accepted; give a number at least 0 and below 1."),
        (lambda: fedtide.Adam(float("nan")), "Adam(learning_rate=nan) is not accepted"),
        (lambda: fedtide.polynomial(-0.5), "polynomial(exponent=-0.5) would weigh stale updates more"),
        (lambda: fedtide.hinge(0.0), "hinge(slope=0.0, threshold=4) is not accepted"),
        (lambda: FedBuff(LAYOUT, initial(), buffer_size=0), "buffer_size = 0 is not accepted; give 1 or more."),
        (lambda: FedBuff(LAYOUT, initial(), fairness=2.0), "FedBuff: fairness = 2.0 is not accepted"),
        (lambda: fedtide.FedAsync(LAYOUT, initial(), mixing=1.5), "mixing = 1.5 is not accepted"),
        (
            lambda: fedtide.Robust(LAYOUT, initial(), buffer_size=4),
            "buffer_size = 4 is too small for rule = 'trimmed_m",
        ),
        (lambda: fedtide.Personal(pull=2.0), "Personal: pull = 2.0 is not accepted"),
        (lambda: fedtide.Partial(), "Partial: the spec: give either groups or num_parts."),
    ],
)
def test_what_is_out_of_range_is_one_sentence(make: Callable[[], Any], said: str) -> None:
    """As a spec's key would be refused."""
    with pytest.raises(SpecError) as caught:
        make()
    assert said in str(caught.value)
