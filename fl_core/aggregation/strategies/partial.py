"""The strategy ``partial``: a buffer of updates that each carry a part of the model.

Every tensor takes the mean over the updates that brought it, and over no others: averaging as in HeteroFL (Diao, Ding
and Tarokh, ICLR 2021, arXiv 2010.01264, section 3), in a buffer as in FedBuff (Nguyen et al., AISTATS 2022,
arXiv 2106.06639).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.staleness import StalenessWeight, polynomial, staleness_weight
from fl_core.aggregation.strategy import Merge, Strategy, Tensors, at_least_one, verify_strategy
from fl_core.errors import CampaignError, SpecError
from fl_core.spec import CampaignSpec
from fl_core.training.methods.partial import parts_of
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.arithmetic import add_scaled
from fl_core.vectors.layout import Layout
from fl_core.vectors.model_parts import Parts


class PartialBuffer(Strategy):
    """x_t <- x_t + η · Σ_{i brought t} s(τ_i) Δ_it / #{i brought t}, tensor by tensor, after every K updates.

    A flush of n updates, fewer than K, takes n/K of that step, so that with whole updates only this is FedBuff.
    A tensor that nobody brought stays as it is, which no rule with a memory of its own would grant: there is
    no other server optimizer than this rate.

    Args:
        layout, initial: as of ``Strategy``.
        parts: how the method of that name divides the model (``parts_of``).
        buffer_size: K.
        staleness: s(τ).
        learning_rate: η, above 0.

    Raises:
        SpecError: a setting lies outside of its range.
    """

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        parts: Parts,
        buffer_size: int = 10,
        staleness: StalenessWeight = polynomial(0.5),
        learning_rate: float = 1.0,
    ) -> None:
        super().__init__(layout, initial)
        at_least_one(buffer_size=buffer_size)
        if not learning_rate > 0:
            raise SpecError(f"learning_rate = {learning_rate!r} is not accepted; give a number above 0.")
        self._parts = parts
        self._rate = learning_rate
        self._buffer_size = buffer_size
        self._staleness_weight = staleness
        self._sum: FloatArray = np.zeros(layout.num_elements, np.float32)
        self._counts = [0] * len(layout.tensors)
        self._staleness: list[int] = []
        self._weights: list[float] = []

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """With the parts of ``training.method_args``.

        Raises:
            SpecError: they do not fit the model.
        """
        return cls(
            layout,
            initial,
            parts=parts_of(spec.training.method_args, layout),
            buffer_size=spec.aggregation.buffer_size,
            staleness=staleness_weight(spec.aggregation),
            learning_rate=spec.server_optimizer.learning_rate,
        )

    def slow(self, factor: float) -> None:
        """Make η as much smaller."""
        self._rate *= factor

    @property
    def buffer_count(self) -> int:
        """How many updates wait, below K."""
        return len(self._weights)

    def update_elements(self, part: int) -> int | None:
        """The size of a part; None where there is no such part."""
        return self._parts.num_elements(part) if part <= self._parts.count else None

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add one part to the tensors that it brings; the K-th update merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        values, weight = contribution.delta.values, self._staleness_weight(contribution.staleness)
        start = 0
        for index in self._parts.tensors(contribution.part):
            where = self.layout.slices[index]
            size = where.stop - where.start
            add_scaled(self._sum[where], values[start : start + size], weight)
            self._counts[index] += 1
            start += size
        self._staleness.append(contribution.staleness)
        self._weights.append(weight)
        return self.flush() if len(self._weights) >= self._buffer_size else None

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits, however few; None when nothing does."""
        if not self._weights:
            return None
        values = self.parameters.values
        full = len(self._weights) / self._buffer_size
        for where, count in zip(self.layout.slices, self._counts, strict=True):
            if count:
                add_scaled(values[where], self._sum[where], self._rate * full / count)
        self.version += 1
        merge = Merge(self.version, len(self._weights), tuple(self._staleness), tuple(self._weights))
        self._sum.fill(0)
        self._counts = [0] * len(self._counts)
        self._staleness, self._weights = [], []
        return merge

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views."""
        return {"parameters": self.parameters.values, "sum": self._sum}, {
            "strategy": "partial",
            "version": self.version,
            "counts": list(self._counts),
            "staleness": list(self._staleness),
            "weights": list(self._weights),
        }

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another strategy or another model.
        """
        verify_strategy("partial", meta)
        super().restore_state(tensors, meta)
        saved = tensors.get("sum")
        if saved is None or saved.shape != self._sum.shape or len(meta["counts"]) != len(self._counts):
            raise CampaignError(
                f"The checkpoint's buffer does not fit a model of {self._sum.size} elements; "
                "resume with the spec that wrote it."
            )
        np.copyto(self._sum, saved)
        self._counts = [int(count) for count in meta["counts"]]
        self._staleness = [int(value) for value in meta["staleness"]]
        self._weights = [float(value) for value in meta["weights"]]
