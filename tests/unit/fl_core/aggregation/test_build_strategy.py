"""The spec's name becomes a strategy, built in or one's own."""

import inspect
import sys
import types
from typing import Any

import numpy as np
import pytest

from fl_core.aggregation import Strategy, build_strategy
from fl_core.aggregation.strategies.fedavg import FedAvg
from fl_core.built_in import STRATEGIES
from fl_core.errors import LayoutError, SpecError
from fl_core.factory import resolve
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout
from fl_core.vectors.tensor_spec import TensorSpec

LAYOUT = Layout((TensorSpec("w", (3,)),))
NAMES = sorted(set(STRATEGIES) - {"partial", "distillation"})  # these two go with a method of the device's


def needed(name: str) -> dict[str, Any]:
    """The sections that a strategy does not start without."""
    return {"server_optimizer": {"learning_rate": 0.01}} if name == "fadas" else {}


def spec_of(**aggregation: Any) -> CampaignSpec:
    """A spec with these keys under ``aggregation``."""
    more = needed(aggregation.get("strategy", "fedbuff"))
    return parse_spec({"model": {"factory": "m:f"}, "aggregation": aggregation, **more})


def zeros(size: int = 3) -> Parameters:
    """Initial parameters."""
    return Parameters(np.zeros(size, np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_is_a_strategy_at_version_zero(name: str) -> None:
    """Each name of the registry builds a whole strategy that owns a copy of the initial parameters."""
    initial = zeros()
    strategy = build_strategy(spec_of(strategy=name), LAYOUT, initial)
    assert isinstance(strategy, Strategy)
    assert (strategy.version, strategy.buffer_count) == (0, 0)
    assert not np.shares_memory(strategy.parameters.values, initial.values)
    assert strategy.flush() is None


def test_own_strategy_by_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import path is called with the layout and the parameters, and gets aggregation.args by name."""
    seen = []

    def mine(layout: Layout, initial: Parameters, **args: int) -> Strategy:
        seen.append(args)
        return FedAvg(layout, initial)

    module = types.ModuleType("own_strategies")
    module.mine = mine  # type: ignore[attr-defined]
    module.wrong = lambda layout, initial: 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_strategies", module)
    strategy = build_strategy(spec_of(strategy="own_strategies:mine", args={"k": 1}), LAYOUT, zeros())
    assert (strategy.sends, strategy.barrier) == (FedAvg.sends, FedAvg.barrier)
    assert seen == [{"k": 1}]
    with pytest.raises(SpecError, match="gave a int"):
        build_strategy(spec_of(strategy="own_strategies:wrong"), LAYOUT, zeros())
    with pytest.raises(SpecError, match="no callable 'missing'"):
        build_strategy(spec_of(strategy="own_strategies:missing"), LAYOUT, zeros())


@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_nothing_reads_are_refused(name: str) -> None:
    """An argument that the strategy does not have is an error and not ignored."""
    with pytest.raises(SpecError, match=r"aggregation\.args"):
        build_strategy(spec_of(strategy=name, args={"k": 1}), LAYOUT, zeros())


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"strategy": "fedbuff", "args": {"fairness": 1.5}}, {}, "fairness = 1.5 is not accepted"),
    ({"strategy": "fedbuff", "args": {"fairnes": 0.5}}, {}, "unknown key 'fairnes'; did you mean 'fairness'?"),
    ({"strategy": "fadas"}, {}, "server_optimizer.learning_rate = 1.0 would move each parameter"),
    (
        {"strategy": "ca2fl", "buffer_size": 10, "args": {"max_cached": 9}},
        {},
        "max_cached = 9 is below buffer_size = 10",
    ),
    ({"strategy": "asyncfeded", "args": {"kept_versions": 0}}, {}, "kept_versions = 0 is not accepted"),
    ({"strategy": "attention", "args": {"temperature": 0.0}}, {}, "temperature = 0.0 is not accepted"),
    ({"strategy": "fedatt", "args": {"temperature": 0.0}}, {}, "temperature = 0.0 is not accepted"),
    ({"strategy": "robust", "args": {"rule": "mean"}}, {}, "rule = 'mean' is not accepted"),
    (
        {"strategy": "robust", "buffer_size": 6, "args": {"rule": "krum", "num_byzantine": 2}},
        {},
        "buffer_size = 6 is too small for rule = 'krum' with num_byzantine = 2, which needs 7",
    ),
    (
        {"strategy": "robust", "buffer_size": 4, "args": {"rule": "trimmed_mean", "num_byzantine": 2}},
        {},
        "buffer_size = 4 is too small for rule = 'trimmed_mean' with num_byzantine = 2, which needs 5",
    ),
    (
        {"strategy": "robust", "buffer_size": 8, "args": {"rule": "multi_krum", "num_selected": 5}},
        {},
        "num_selected = 5 is above buffer_size - num_byzantine - 2 = 4",
    ),
]


@pytest.mark.parametrize(("aggregation", "more", "sentence"), BAD)
def test_settings_that_cannot_work_are_refused_in_one_sentence(
    aggregation: dict[str, Any], more: dict[str, Any], sentence: str
) -> None:
    """A wrong argument, one that no buffer can satisfy, or a setting that would be ignored is told at launch."""
    spec = parse_spec({"model": {"factory": "m:f"}, "aggregation": aggregation, **more})
    with pytest.raises(SpecError) as caught:
        build_strategy(spec, LAYOUT, zeros())
    assert sentence in str(caught.value)


def test_initial_parameters_must_fit_the_layout() -> None:
    """Parameters of another size are refused at the start."""
    with pytest.raises(LayoutError, match="3 elements"):
        build_strategy(spec_of(), LAYOUT, zeros(4))


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_without_settings_gives_the_defaults_of_the_arguments(name: str) -> None:
    """A strategy in a notebook is the one that a campaign has: both places say the same numbers."""
    kind: Any = resolve(STRATEGIES[name], "aggregation.strategy")
    given: dict[str, Any] = {}

    class Recorded(kind):  # type: ignore[misc]
        def __init__(self, layout: Layout, initial: Parameters, **settings: Any) -> None:
            given.update(settings)

    Recorded.from_spec(spec_of(strategy=name), LAYOUT, Parameters(np.zeros(3, np.float32)))
    for argument, value in given.items():
        default = inspect.signature(kind).parameters[argument].default
        if callable(default):  # a staleness weight
            assert [default(staleness) for staleness in range(30)] == [value(staleness) for staleness in range(30)]
        else:
            assert value == default, argument
