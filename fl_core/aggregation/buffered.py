"""The base class of strategies that collect deltas in a buffer and then move the model by one step.

A subclass decides two things: how an update enters its buffer (``offer``), and which delta the buffer amounts to
(``mean``). Version, server optimizer, merging and the state's way into a checkpoint and back are here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, Protocol, TypedDict

import numpy.typing as npt

from fl_core.aggregation.optimizer.rules import ServerRule, server_rule
from fl_core.aggregation.optimizer.server_optimizer import ServerOptimizer
from fl_core.aggregation.staleness import StalenessWeight, staleness_weight
from fl_core.aggregation.strategy import (
    Merge,
    Strategy,
    Tensors,
    at_least_one,
    restore_vector,
    verify_strategy,
    with_prefix,
)
from fl_core.errors import CampaignError
from fl_core.signatures import verify_class
from fl_core.spec import CampaignSpec
from fl_core.vectors import Delta, Parameters
from fl_core.vectors.layout import Layout


class Part(Protocol):
    """A piece of a strategy's state."""

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Arrays by name, as views, and plain values."""
        ...

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits; the arrays are copied."""
        ...


class UpdateBuffer(Part, Protocol):
    """Admitted updates that wait for a merge, in whatever form."""

    staleness: list[int]

    @property
    def count(self) -> int:
        """How many updates are in it."""
        ...

    @property
    def weights(self) -> Sequence[float]:
        """The update weight of each, in the order of arrival."""
        ...

    def clear(self) -> None:
        """Empty it."""
        ...


class BufferedStrategy(Strategy):
    """Parameters, version, buffer, server optimizer and further parts, moved together and kept together.

    Args:
        layout, initial: as of ``Strategy``.
        buffer: where updates wait.
        buffer_size: K, how many updates make a version.
        optimizer: how the parameters follow what the buffer comes to.
        parts: what else belongs to the state, by the name that it gets in the checkpoint.

    Attributes:
        name: the strategy's, as a spec and a checkpoint write it.
    """

    name: ClassVar[str] = ""
    _buffer: UpdateBuffer

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        buffer: UpdateBuffer,
        *,
        buffer_size: int,
        optimizer: ServerRule,
        **parts: Part,
    ) -> None:
        super().__init__(layout, initial)
        at_least_one(buffer_size=buffer_size)
        self._buffer = buffer
        self._buffer_size = buffer_size
        self._optimizer = ServerOptimizer(optimizer, layout)
        self._parts: dict[str, Part] = {"buffer": buffer, "server_optimizer": self._optimizer, **parts}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        verify_class(cls, BufferedStrategy, ("mean", "step"))

    @property
    def buffer_count(self) -> int:
        """How many updates wait."""
        return self._buffer.count

    @abstractmethod
    def mean(self, share: float) -> Delta:
        """What the buffer comes to: the delta that the server optimizer follows. The buffer is cleared next."""

    def step(self, mean: Delta) -> None:
        """Move the parameters by it."""
        self._optimizer.step(self.parameters, mean)

    def slow(self, factor: float) -> None:
        """Slow the server optimizer."""
        self._optimizer.slow(factor)

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits, however few; None when nothing does."""
        buffer = self._buffer
        return self._step_by(self.mean(share), buffer.weights) if buffer.count else None

    def advance(self, mean: Delta, staleness: Sequence[int], weights: Sequence[float]) -> Merge:
        """Move the model by a mean that was made elsewhere."""
        self._buffer.staleness = list(staleness)  # by which a rule may go
        return self._step_by(mean, weights)

    def _step_by(self, mean: Delta, weights: Sequence[float]) -> Merge:
        self.step(mean)
        self.version += 1
        merge = Merge(self.version, len(weights), tuple(self._buffer.staleness), tuple(weights))
        self._buffer.clear()
        return merge

    def _merge_if_full(self) -> Merge | None:
        return self.flush() if self._buffer.count >= self._buffer_size else None

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views, named with a prefix for the part that they belong to."""
        tensors: Tensors = {"parameters": self.parameters.values}
        meta: dict[str, Any] = {"strategy": self.name, "version": self.version}
        for part_name, part in self._parts.items():
            part_tensors, meta[part_name] = part.export_state()
            tensors |= {f"{part_name}.{name}": array for name, array in part_tensors.items()}
        return tensors, meta

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another strategy, another model or another server optimizer.
        """
        verify_strategy(self.name, meta)
        restore_vector(self.parameters.values, tensors, "parameters")
        for part_name, part in self._parts.items():
            part.restore_state(with_prefix(tensors, f"{part_name}."), meta[part_name])
        self.version = int(meta["version"])


class BufferSettings(TypedDict):
    """What most of these strategies take from a spec: K, s(τ), and how the parameters follow."""

    buffer_size: int
    staleness: StalenessWeight
    optimizer: ServerRule


def buffer_settings(spec: CampaignSpec) -> BufferSettings:
    """As the spec says."""
    return BufferSettings(
        buffer_size=spec.aggregation.buffer_size,
        staleness=staleness_weight(spec.aggregation),
        optimizer=server_rule(spec.server_optimizer),
    )


def verify_defaults(name: str, meta: Mapping[str, Any], args: Mapping[str, Any], given: AbstractSet[str]) -> None:
    """Refuse a checkpoint that was made under other defaults: applying the log's rest would give other versions.

    Args:
        name: the strategy's.
        meta: the checkpoint's plain values; ``"args"`` has the settings that it came under. What it does not say was
            the spec's, or a default of before.
        args: these settings as they are now.
        given: which of all settings the spec gives itself.

    Raises:
        CampaignError: it was.
    """
    before = meta.get("args", {})
    for key, value in args.items():
        if before.get(key, value if key in given else None) != value:
            raise CampaignError(
                f"The checkpoint was written by a version of fedtide whose strategy {name!r} had another default of "
                f"aggregation.args.{key}; resume with that version, or launch the campaign anew."
            )
