"""A strategy for the weights and a rule for the state, as one strategy for the whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.buffered import restore_vector, with_prefix
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.statistics import Statistics
from fl_core.aggregation.strategy import Merge, Strategy, Tensors
from fl_core.aggregation.voted_statistics import VotedStatistics
from fl_core.errors import CampaignError
from fl_core.vectors import Parameters, Sends
from fl_core.vectors.layout import Layout


class WholeModel:
    """Merges weights as the inner strategy does, and moves the state with each of its versions.

    Args:
        inner: the strategy of the weights; where it changes its parameters in place, as all of ours do, nothing is
            copied.
        layout: the whole model's.
        values: float32 ``(num_elements,)``, version 0, which this object owns; the weights' part is what ``inner`` was
            given.
        statistics: the state's rule, on the same memory.
        weight: s(τ).

    Attributes:
        inner: as given.
        parameters: the whole model.
    """

    def __init__(
        self,
        inner: Strategy,
        layout: Layout,
        values: npt.NDArray[np.float32],
        statistics: Statistics | VotedStatistics,
        weight: Callable[[int], float],
    ) -> None:
        self.inner = inner
        self.parameters = Parameters(values)
        self.held_vectors: int = getattr(inner, "held_vectors", 1)
        self._weights = values[layout.trainable]
        self._layout = layout
        self._statistics = statistics
        self._weight = weight

    @property
    def sends(self) -> Sends:
        """What devices have to send of the weights; of the state they send values."""
        return self.inner.sends

    @property
    def barrier(self) -> bool:
        """As the inner strategy's."""
        return self.inner.barrier

    @property
    def version(self) -> int:
        """As the inner strategy's."""
        return self.inner.version

    @property
    def buffer_count(self) -> int:
        """As the inner strategy's."""
        return self.inner.buffer_count

    @property
    def waits_for(self) -> str:
        """As the inner strategy's: what a full buffer still lacks."""
        return str(getattr(self.inner, "waits_for", ""))

    def update_elements(self, part: int) -> int | None:
        """How many elements of the weights an update of that part has; None for an unknown part."""
        own: Callable[[int], int | None] | None = getattr(self.inner, "update_elements", None)
        if own is not None:
            return own(part)
        return self._layout.num_parameters if part == 0 else None

    def offer(self, contribution: Contribution) -> Merge | None:
        """Take one update in: its weights, and its state where it has one."""
        if contribution.state is not None:
            self._statistics.add(
                contribution.state,
                worker=contribution.worker,
                weight=self._weight(contribution.staleness),
                staleness=contribution.staleness,
            )
        return self._after(self.inner.offer(contribution))

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits, however few."""
        return self._after(self.inner.flush(share))

    def _after(self, merge: Merge | None) -> Merge | None:
        if merge is not None:
            self._statistics.merge()
            self._take_weights()
        return merge

    def _take_weights(self) -> None:
        values = self.inner.parameters.values
        if values is not self._weights and not np.may_share_memory(values, self._weights):
            np.copyto(self._weights, values)

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views, the statistics' under a prefix."""
        tensors, meta = self.inner.export_state()
        more, statistics = self._statistics.export_state()
        beside = self.parameters.values[self._layout.num_parameters :]
        tensors = tensors | {"state": beside} | {f"statistics.{name}": array for name, array in more.items()}
        return tensors, {**meta, "statistics": statistics}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another strategy or another model.
        """
        if "statistics" not in meta:
            raise CampaignError(
                "The checkpoint was written by a version of fedtide that took buffers for weights; launch the campaign "
                "anew, from its model if need be."
            )
        restore_vector(self.parameters.values[self._layout.num_parameters :], tensors, "state")
        self._statistics.restore_state(with_prefix(tensors, "statistics."), meta["statistics"])
        own = {name: array for name, array in tensors.items() if name != "state" and not name.startswith("statistics.")}
        self.inner.restore_state(own, meta)
        self._take_weights()
