"""From a spec to its strategy, built in or the user's own, at version 0."""

from __future__ import annotations

from typing import Any

from fl_core.aggregation.own_strategy import OwnStrategy
from fl_core.aggregation.staleness import staleness_weight
from fl_core.aggregation.strategy import Strategy
from fl_core.aggregation.whole_model import WholeModel
from fl_core.built_in import STRATEGIES
from fl_core.errors import SpecError
from fl_core.factory import resolve
from fl_core.signatures import verified, verify_inherits
from fl_core.spec import CampaignSpec
from fl_core.spec.combinations import Choice, refusal
from fl_core.user_code import build
from fl_core.vectors import Parameters
from fl_core.vectors.layout import Layout

KEY = "aggregation.strategy"


def build_strategy(spec: CampaignSpec, layout: Layout, initial: Parameters) -> Strategy:
    """The strategy that ``aggregation.strategy`` names, at version 0.

    A built-in one is made by its ``from_spec``, and so is a class of the user's own; by default that calls the class
    with the layout, the initial parameters and ``aggregation.args`` by name. Another callable is called so itself.

    Args:
        spec: the campaign's.
        layout: the model's.
        initial: the parameters of version 0, float32 of shape ``(num_elements,)``; they are copied.

    Raises:
        SpecError: the strategy cannot be imported, lacks a method, or does not go with the rest of the spec.
        LayoutError: ``initial`` has another size than the layout.
    """
    name = spec.aggregation.strategy
    made: Any = resolve(STRATEGIES.get(name, name), KEY)

    def make(seen: Layout, start: Parameters) -> Strategy:
        if name in STRATEGIES:
            built_in: Strategy = made.from_spec(spec, seen, start)
            return built_in
        return OwnStrategy(name, _build_own(made, spec, seen, start), seen)

    whole = layout.num_parameters == layout.num_elements or getattr(made, "trains_whole_model", False)
    if whole:
        strategy = make(layout, initial)
    else:
        weigh, rate = staleness_weight(spec.aggregation), spec.aggregation.statistics_rate
        strategy = WholeModel(make, layout, initial, statistics_rate=rate, staleness=weigh)
    if (wrong := refusal(Choice.of(spec, merges=strategy.sends))) is not None:
        raise SpecError(f"{wrong}.")
    return strategy


def _build_own(made: Any, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Strategy:
    name, args = spec.aggregation.strategy, spec.aggregation.args
    is_class = isinstance(made, type)
    if is_class:
        verify_inherits(KEY, name, made, Strategy)
    if is_class and made.from_spec.__func__ is not Strategy.from_spec.__func__:  # type: ignore[attr-defined]
        strategy = build(KEY, name, made.from_spec, spec, layout, initial)
    else:
        strategy = build(KEY, name, made, layout, initial, **verified(KEY, name, made, ("layout", "initial"), args))
    if not isinstance(strategy, Strategy):
        raise SpecError(f"{KEY} = {name!r} gave a {type(strategy).__name__}, which is no fedtide.Strategy.")
    return strategy
