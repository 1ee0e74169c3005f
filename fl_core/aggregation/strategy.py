"""The base class of all aggregation strategies, built in or one's own.

A strategy owns the current parameters and moves them as updates are offered. It is pure in the sense that matters for
resuming: its state is what ``export_state`` gives, and the same contributions in the same order lead to the same bits.

A strategy sees weights only: of a model with buffers it gets the layout and the vector of the weights, and
``fl_core/aggregation/whole_model.py`` takes care of the rest. A strategy that trains the model itself sets
``trains_whole_model = True`` in its class and gets the whole model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.contribution import Contribution
from fl_core.errors import CampaignError, InvariantError, LayoutError, SpecError
from fl_core.signatures import verify_class
from fl_core.spec import CampaignSpec
from fl_core.vectors import Delta, FloatArray, Parameters, Sends
from fl_core.vectors.layout import Layout

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]


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


class Strategy(ABC):
    """How admitted updates become versions. Only ``offer`` has to be written; the rest has the defaults below.

    A subclass calls ``super().__init__(layout, initial)``, and takes settings of its own as further arguments: a spec
    gives them in ``[aggregation.args]``. Methods of another form are refused when the class is made.

    Args:
        layout: the model's, or that of its weights alone.
        initial: version 0, float32 of shape ``(num_elements,)``; it is copied.

    Attributes:
        sends: what devices have to send: ``"delta"``, ``"parameters"`` or ``"soft_labels"``.
        barrier: the dispatcher waits for all tasks of a cohort, and then calls ``flush``.
        one_vote_each: it trusts no single worker, and running statistics are then merged in the same way.
        trains_whole_model: it gets a model's buffers too, and moves them itself.
        held_vectors: how many vectors of the model's size it may hold beside the parameters and the server optimizer's.
        waits_for: what a full buffer still lacks, in words; empty if nothing.
        layout: as given.
        parameters: the current version; later merges change it in place, so copy what must last.
        version: how many merges the model has had.

    Raises:
        LayoutError: the parameters do not have the layout's size.
        SpecError: a method of a subclass has another form (when the class is made).
    """

    sends: Sends = "delta"
    barrier: bool = False
    one_vote_each: bool = False
    trains_whole_model: ClassVar[bool] = False
    held_vectors: int = 1
    if TYPE_CHECKING:

        @property
        def buffer_count(self) -> int:
            """How many updates wait for a merge."""

        @property
        def waits_for(self) -> str:
            """What a full buffer still lacks."""
    else:  # a subclass may have an attribute or a property
        buffer_count = 0
        waits_for = ""

    def __init__(self, layout: Layout, initial: Parameters) -> None:
        values = initial.values
        if values.shape != (layout.num_elements,):
            raise LayoutError(
                f"The initial parameters have shape {list(values.shape)}; the layout has {layout.num_elements} "
                "elements."
            )
        if layout.num_elements != layout.num_parameters and not self.trains_whole_model:
            raise LayoutError(
                f"{type(self).__name__} merges weights, and this layout has {layout.num_elements} elements of which "
                f"{layout.num_parameters} are trained: put fedtide.WholeModel around it, or give layout.weights."
            )
        self.layout = layout
        self.parameters = Parameters(np.array(values, np.float32))
        self.version = 0

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        verify_class(cls, Strategy, CALLED)

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """The strategy of a campaign, from what its spec says; ``aggregation.args`` become arguments by name.

        Raises:
            SpecError: a setting is not accepted.
        """
        return cls(layout, initial, **spec.aggregation.args)

    @abstractmethod
    def offer(self, contribution: Contribution) -> Merge | None:
        """Take one update in; the merge that it caused, or None while it waits in the buffer.

        Raises:
            InvariantError: the contribution is not what this strategy merges.
        """

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits in the buffer now; None when nothing does.

        Args:
            share: how much of a cohort has come in, in (0, 1]. Below 1 the campaign ends in the middle of one, and the
                step is to be that much shorter: one device's data must not get the weight of all.
        """
        return None

    def advance(self, mean: Delta, staleness: Sequence[int], weights: Sequence[float]) -> Merge:
        """Make a version of a mean that was made elsewhere, of updates that were not offered: a noisy sum's.

        Args:
            mean: float32 ``(num_parameters,)``; it is overwritten.
            staleness, weights: of each update in it.

        Raises:
            InvariantError: this strategy does not move by means.
        """
        raise InvariantError(f"{type(self).__name__} was to move by a mean that was made elsewhere.")

    def slow(self, factor: float) -> None:
        """Take steps that are ``factor`` times as long from now on, since the guard went back to an earlier version.

        If it does nothing, the campaign diverges in the same way again.

        Args:
            factor: in (0, 1), the product of all factors so far, since the strategy was built again before the call.
        """
        return

    def update_elements(self, part: int) -> int | None:
        """How many elements an update of a part has, 0 being the whole; None for an unknown part."""
        return self.layout.num_elements if part == 0 else None

    def base_weights(self, staleness: int) -> FloatArray:
        """The weights, float32 ``(num_parameters,)``, from which an update of parameters is measured.

        They are those of its base version where the strategy keeps them, and the present ones where it does not.
        """
        return self.parameters.values[self.layout.trainable]

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state: arrays by name, as views that the caller copies before the next merge, and plain values.

        A subclass that remembers anything else adds it. The version is among the plain values under ``"version"``: a
        model that went back goes on from a higher one.
        """
        return {"parameters": self.parameters.values}, {"version": self.version}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits; the arrays are copied.

        Raises:
            CampaignError: the state is of another strategy or another model.
        """
        restore_vector(self.parameters.values, tensors, "parameters")
        self.version = int(meta["version"])


CALLED = (
    "offer", "flush", "slow", "update_elements", "base_weights", "export_state", "restore_state",
)  # fmt: skip
"""The methods that a campaign calls."""


def restore_vector(target: npt.NDArray[Any], tensors: Mapping[str, npt.NDArray[Any]], name: str) -> None:
    """Copy a checkpoint's array into ``target``.

    Raises:
        CampaignError: it is missing or has another shape.
    """
    saved = tensors.get(name)
    if saved is None or saved.shape != target.shape:
        raise CampaignError(
            f"The checkpoint's {name} do not fit a model of {target.shape[-1]} elements; resume with the spec that "
            "wrote it."
        )
    np.copyto(target, saved)


def verify_strategy(name: str, meta: Mapping[str, Any]) -> None:
    """Refuse another strategy's checkpoint.

    Raises:
        CampaignError: it is one.
    """
    if meta["strategy"] != name:
        raise CampaignError(
            f"The checkpoint is of aggregation.strategy = {meta['strategy']!r}, the spec says {name!r}; "
            "resume with the spec that wrote it."
        )


def with_prefix(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> Tensors:
    """The arrays whose names begin with ``prefix``, under the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def at_least_one(**settings: int) -> None:
    """Refuse numbers of updates, versions or workers that are below 1.

    Raises:
        SpecError: it names the first.
    """
    for name, value in settings.items():
        if not value >= 1:
            raise SpecError(f"{name} = {value!r} is not accepted; give 1 or more.")
