"""What an aggregation strategy is, and how the spec's name becomes one.

A strategy owns the current parameters and moves them as updates are offered. It is pure in the sense that matters for
resuming: its state is what ``export_state`` gives, and the same contributions in the same order lead to the same bits.
To add one, write a class with these members and name it in ``BUILT_IN``, or in a spec by its import path.

A strategy sees weights alone: of a model with buffers it gets the layout and the vector of the weights, and
``fl_core/aggregation/whole_model.py`` sees to the rest. One that trains the model itself says
``trains_whole_model = True`` in its class and gets all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.staleness import staleness_weight
from fl_core.errors import LayoutError, SpecError
from fl_core.factory import resolve
from fl_core.spec import CampaignSpec, Section, parse_section
from fl_core.user_code import build
from fl_core.vectors import FloatArray, Parameters, Sends
from fl_core.vectors.layout import Layout

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]
_ArgsT = TypeVar("_ArgsT", bound=Section)

BUILT_IN = {
    "fedavg": "fl_core.aggregation.strategies.fedavg:FedAvg",
    "fedasync": "fl_core.aggregation.strategies.fedasync:FedAsync",
    "fedbuff": "fl_core.aggregation.strategies.fedbuff:FedBuff",
    "fadas": "fl_core.aggregation.strategies.fadas:Fadas",
    "ca2fl": "fl_core.aggregation.strategies.ca2fl:CA2FL",
    "asyncfeded": "fl_core.aggregation.strategies.asyncfeded:AsyncFedED",
    "attention": "fl_core.aggregation.strategies.attention:Attention",
    "fedatt": "fl_core.aggregation.strategies.fedatt:FedAtt",
    "robust": "fl_core.aggregation.strategies.robust:Robust",
    "partial": "fl_core.aggregation.strategies.partial:PartialBuffer",
    "distillation": "fl_core.aggregation.strategies.distillation:StudentDistillation",
}


@dataclass(frozen=True, slots=True)
class Merge:
    """One merge that has happened.

    Attributes:
        version: the version that it made.
        num_updates: how many updates went into it.
        staleness: τ of each, in the order in which they were offered.
        weights: the update weight of each, before any division by a count or a sum.
    """

    version: int
    num_updates: int
    staleness: tuple[int, ...]
    weights: tuple[float, ...]


@runtime_checkable
class Strategy(Protocol):
    """How admitted updates become versions."""

    @property
    def sends(self) -> Sends:
        """What devices have to send."""
        ...

    @property
    def barrier(self) -> bool:
        """Whether the dispatcher waits for all tasks of a cohort and then calls ``flush``."""
        ...

    @property
    def version(self) -> int:
        """How many merges the model has had."""
        ...

    @property
    def parameters(self) -> Parameters:
        """The current version; later merges change it in place, so copy what must last."""
        ...

    @property
    def buffer_count(self) -> int:
        """How many updates wait for a merge."""
        ...

    def offer(self, contribution: Contribution) -> Merge | None:
        """Take one update in; the merge that it caused, or None while it waits in the buffer.

        Raises:
            InvariantError: the contribution is not what this strategy merges.
        """
        ...

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits in the buffer now; None when nothing does.

        Args:
            share: how much of a cohort has come in, in (0, 1]. Below 1 the campaign ends in the middle of one, and the
                step is to be that much shorter: one device's data must not get the weight of all.
        """
        ...

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state: arrays by name, as views that the caller copies before the next merge, and plain values.

        The version is among the plain values under ``"version"``: a model that went back goes on from a higher one.
        """
        ...

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits; the arrays are copied.

        Raises:
            CampaignError: the state is of another strategy or another model.
        """
        ...


def update_elements(strategy: Strategy, layout: Layout, part: int) -> int | None:
    """How many elements an update has: the weights', unless the strategy says otherwise; None for an unknown part.

    A strategy whose updates are not as long as the weights has a method ``update_elements(part)`` of its own.
    """
    own: Callable[[int], int | None] | None = getattr(strategy, "update_elements", None)
    if own is not None:
        return own(part)
    return layout.num_parameters if part == 0 else None


def build_strategy(spec: CampaignSpec, layout: Layout, initial: Parameters) -> Strategy:
    """The strategy that ``aggregation.strategy`` names, at version 0.

    Args:
        spec: the campaign's.
        layout: the model's.
        initial: the parameters of version 0, float32 of shape ``(num_elements,)``; they are copied.

    Raises:
        SpecError: the strategy cannot be imported, lacks a member, or does not go with the rest of the spec.
        LayoutError: ``initial`` has another size than the layout.
    """
    if initial.values.shape != (layout.num_elements,):
        raise LayoutError(
            f"The initial parameters have shape {list(initial.values.shape)}; the layout has {layout.num_elements} "
            "elements."
        )
    name = spec.aggregation.strategy
    make, values = resolve(BUILT_IN.get(name, name), "aggregation.strategy"), np.array(initial.values, np.float32)
    whole = layout.num_parameters == layout.num_elements or getattr(make, "trains_whole_model", False)
    seen, start = (layout, Parameters(values)) if whole else (layout.weights, Parameters(values[layout.trainable]))
    own = name not in BUILT_IN
    strategy: Strategy = (
        build("aggregation.strategy", name, make, spec, seen, start) if own else make(spec, seen, start)
    )
    sends = getattr(strategy, "sends", "delta")
    if sends != "delta" and spec.codec.name == "topk":
        what = str(sends).replace("_", " ")
        raise SpecError(
            f"codec.name = 'topk' is for deltas, and strategy {name!r} merges {what}; use int8, bf16 or fp16."
        )
    if own:
        from fl_core.aggregation.strategies.own_strategy import OwnStrategy

        strategy = OwnStrategy(name, strategy, seen)
    if whole:
        return strategy
    from fl_core.aggregation.statistics import Statistics
    from fl_core.aggregation.voted_statistics import VotedStatistics
    from fl_core.aggregation.whole_model import WholeModel

    kind = VotedStatistics if name == "robust" else Statistics
    statistics = kind(layout, values, rate=spec.aggregation.statistics_rate)
    return WholeModel(strategy, layout, values, statistics, staleness_weight(spec.aggregation))


def verify_no_args(spec: CampaignSpec) -> None:
    """Refuse ``aggregation.args`` where nothing would read them.

    Raises:
        SpecError: there are some.
    """
    if spec.aggregation.args:
        raise SpecError(
            f"aggregation.args = {spec.aggregation.args!r} is not read by strategy {spec.aggregation.strategy!r}; "
            "remove it."
        )


def read_args(spec: CampaignSpec, model: type[_ArgsT]) -> _ArgsT:
    """A strategy's own settings, ``[aggregation.args]``, validated as any other section.

    Raises:
        SpecError: a key is unknown or its value is not accepted.
    """
    return parse_section(model, dict(spec.aggregation.args), "aggregation.args")


def verify_unread(spec: CampaignSpec, *keys: str) -> None:
    """Refuse settings that the strategy would not look at, such as ``"server_optimizer.name"``.

    Raises:
        SpecError: one of them is not at its default.
    """
    for key in keys:
        section_name, _, name = key.partition(".")
        section = getattr(spec, section_name)
        value = getattr(section, name)
        if value != type(section).model_fields[name].get_default(call_default_factory=True):
            raise SpecError(f"{key} = {value!r} is not read by strategy {spec.aggregation.strategy!r}; remove it.")


def base_weights(strategy: Strategy, layout: Layout, staleness: int) -> FloatArray:
    """The weights, float32 ``(num_parameters,)``, from which an update of parameters is measured: its base version's.

    FedAsync keeps them where there is a bound to measure (its method ``base``); of a strategy that does not, they are
    the present version's.
    """
    base: Callable[[int], FloatArray | None] | None = getattr(getattr(strategy, "inner", strategy), "base", None)
    kept = None if base is None else base(staleness)
    return strategy.parameters.values[layout.trainable] if kept is None else kept
