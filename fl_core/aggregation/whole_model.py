"""A strategy for the weights and a rule for the state, as one strategy for the whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.own_strategy import OwnStrategy
from fl_core.aggregation.staleness import StalenessWeight, polynomial
from fl_core.aggregation.statistics import Statistics
from fl_core.aggregation.strategy import Merge, Strategy, Tensors, restore_vector, with_prefix
from fl_core.aggregation.voted_statistics import VotedStatistics
from fl_core.errors import CampaignError
from fl_core.vectors import Delta, FloatArray, Parameters
from fl_core.vectors.layout import Layout

CONSTANTS = "model.constants"
"""The name, in what a strategy exports, of the array that is the same from the first checkpoint to the last."""


class WholeModel(Strategy):
    """Merges weights as the inner strategy does, and moves the state with each of its versions.

    Args:
        make: makes the inner strategy from the weights' layout and their values in version 0.
        layout: the whole model's.
        initial: version 0 of it, float32 ``(num_elements,)``; it is copied.
        statistics_rate: a of ``Statistics``, in (0, 1].
        staleness: s(τ), with which an update's statistics count.

    Attributes:
        inner: the strategy of the weights; where it changes its parameters in place, as all of ours do, nothing is
            copied at a merge.
        parameters: the whole model.

    >>> from fl_core.aggregation.strategies.fedbuff import FedBuff
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> layout = Layout((TensorSpec("w", (2,)), TensorSpec("running_mean", (1,), role="mean")))
    >>> whole = WholeModel(FedBuff, layout, Parameters(np.zeros(3, np.float32)))
    >>> whole.inner.layout.num_elements, whole.parameters.values.size
    (2, 3)
    """

    trains_whole_model = True

    def __init__(
        self,
        make: Callable[[Layout, Parameters], Strategy],
        layout: Layout,
        initial: Parameters,
        *,
        statistics_rate: float = 0.5,
        staleness: StalenessWeight = polynomial(0.5),
    ) -> None:
        super().__init__(layout, initial)
        values = self.parameters.values
        self._weights = values[layout.trainable]
        self.inner = make(layout.weights, Parameters(self._weights))
        if not isinstance(self.inner, OwnStrategy):
            self.inner.parameters = Parameters(self._weights)  # the same values, from now on in this model's memory
        kind = VotedStatistics if self.inner.one_vote_each else Statistics
        self._statistics = kind(layout, values, rate=statistics_rate)
        self._weigh = staleness
        self.sends, self.barrier, self.held_vectors = self.inner.sends, self.inner.barrier, self.inner.held_vectors

    @property
    def buffer_count(self) -> int:
        """As the inner strategy's."""
        return self.inner.buffer_count

    @property
    def waits_for(self) -> str:
        """As the inner strategy's: what a full buffer still lacks."""
        return self.inner.waits_for

    def update_elements(self, part: int) -> int | None:
        """How many elements of the weights an update of that part has; None for an unknown part."""
        return self.inner.update_elements(part)

    def base_weights(self, staleness: int) -> FloatArray:
        """As the inner strategy's."""
        return self.inner.base_weights(staleness)

    def slow(self, factor: float) -> None:
        """Slow the inner strategy; statistics follow the devices as before."""
        self.inner.slow(factor)

    def offer(self, contribution: Contribution) -> Merge | None:
        """Take one update in: its weights, and its state where it has one."""
        if contribution.state is not None:
            self._statistics.add(
                contribution.state,
                worker=contribution.worker,
                weight=self._weigh(contribution.staleness),
                staleness=contribution.staleness,
            )
        return self._after(self.inner.offer(contribution))

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits, however few."""
        return self._after(self.inner.flush(share))

    def advance(self, mean: Delta, staleness: Sequence[int], weights: Sequence[float]) -> Merge:
        """Make a version of a mean of weights that was made elsewhere."""
        merge = self.inner.advance(mean, staleness, weights)
        self._after(merge)
        return merge

    def _after(self, merge: Merge | None) -> Merge | None:
        if merge is not None:
            self._statistics.merge()
            self._take_weights()
        return merge

    def _take_weights(self) -> None:
        self.version, values = self.inner.version, self.inner.parameters.values
        if values is not self._weights and not np.may_share_memory(values, self._weights):
            np.copyto(self._weights, values)

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views, the statistics' under a prefix."""
        tensors, meta = self.inner.export_state()
        more, statistics = self._statistics.export_state()
        values = self.parameters.values
        tensors = tensors | {"state": values[self.layout.state], CONSTANTS: values[self.layout.constants]}
        tensors |= {f"statistics.{name}": array for name, array in more.items()}
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
        if CONSTANTS in tensors:
            restore_vector(self.parameters.values[self.layout.state], tensors, "state")
            restore_vector(self.parameters.values[self.layout.constants], tensors, CONSTANTS)
        else:  # an earlier release had both in one
            restore_vector(self.parameters.values[self.layout.num_parameters :], tensors, "state")
        self._statistics.restore_state(with_prefix(tensors, "statistics."), meta["statistics"])
        ours = ("state", CONSTANTS)
        own = {
            name: array for name, array in tensors.items() if name not in ours and not name.startswith("statistics.")
        }
        self.inner.restore_state(own, meta)
        self._take_weights()
