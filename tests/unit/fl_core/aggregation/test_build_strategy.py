"""The spec's name becomes a strategy, built in or one's own."""

import sys
import types
from typing import Any

import numpy as np
import pytest

from fl_core.aggregation import Strategy, build_strategy
from fl_core.aggregation.fedavg import FedAvg
from fl_core.aggregation.strategy import BUILT_IN
from fl_core.errors import LayoutError, SpecError
from fl_core.layout import Layout, TensorSpec
from fl_core.spec import CampaignSpec, parse_spec
from fl_core.vectors import Parameters

LAYOUT = Layout((TensorSpec("w", (3,)),))


def spec_of(**aggregation: Any) -> CampaignSpec:
    """A spec with these keys under ``aggregation``."""
    return parse_spec({"model": {"factory": "m:f"}, "aggregation": aggregation})


def zeros(size: int = 3) -> Parameters:
    """Initial parameters."""
    return Parameters(np.zeros(size, np.float32))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_is_a_strategy_at_version_zero(name: str) -> None:
    """Each name of the registry builds a whole strategy that owns a copy of the initial parameters."""
    initial = zeros()
    strategy = build_strategy(spec_of(strategy=name), LAYOUT, initial)
    assert isinstance(strategy, Strategy)
    assert (strategy.version, strategy.buffer_count) == (0, 0)
    assert not np.shares_memory(strategy.parameters.values, initial.values)
    assert strategy.flush() is None


def test_own_strategy_by_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import path is called with the spec, the layout and the parameters, and may read aggregation.args."""
    seen = []

    def mine(spec: CampaignSpec, layout: Layout, initial: Parameters) -> Strategy:
        seen.append(spec.aggregation.args)
        return FedAvg(spec_of(), layout, initial)

    module = types.ModuleType("own_strategies")
    module.mine = mine  # type: ignore[attr-defined]
    module.wrong = lambda spec, layout, initial: 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_strategies", module)
    strategy = build_strategy(spec_of(strategy="own_strategies:mine", args={"k": 1}), LAYOUT, zeros())
    assert isinstance(strategy, FedAvg)
    assert seen == [{"k": 1}]
    with pytest.raises(SpecError, match="gave a int"):
        build_strategy(spec_of(strategy="own_strategies:wrong"), LAYOUT, zeros())
    with pytest.raises(SpecError, match="no callable 'missing'"):
        build_strategy(spec_of(strategy="own_strategies:missing"), LAYOUT, zeros())


@pytest.mark.parametrize("name", BUILT_IN)
def test_arguments_that_nothing_reads_are_refused(name: str) -> None:
    """The built-in strategies have no args; a misplaced one is an error and not ignored."""
    with pytest.raises(SpecError, match=r"aggregation\.args"):
        build_strategy(spec_of(strategy=name, args={"k": 1}), LAYOUT, zeros())


def test_initial_parameters_must_fit_the_layout() -> None:
    """Parameters of another size are refused at the start."""
    with pytest.raises(LayoutError, match="3 elements"):
        build_strategy(spec_of(), LAYOUT, zeros(4))
