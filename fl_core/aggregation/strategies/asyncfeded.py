"""AsyncFedED: an update counts the less, the further the model has moved meanwhile, measured in lengths of the update.

Wang, Yang, He, Shi and Chen, "AsyncFedED: Asynchronous Federated Learning with Euclidean Distance based Adaptive Weight
Aggregation", 2022, arXiv 2205.13797.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy.typing as npt
from pydantic import Field

from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.memory.old_versions import MAX_KEPT, OldVersions, versions_in_flight
from fl_core.aggregation.strategy import Merge, Strategy, Tensors, verify_strategy
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec, Section, parse_section, read_args
from fl_core.vectors import Parameters
from fl_core.vectors.arithmetic import add_scaled, norm_and_finite
from fl_core.vectors.layout import Layout


class AsyncFedEDArgs(Section):
    """``[aggregation.args]``: ε, and how many old versions are kept, in as many vectors of the model's size.

    Without ``kept_versions`` as many are kept as tasks are out at a time, ``dispatch.concurrency``, and at most 1000.
    """

    epsilon: float = Field(default=1.0, gt=0)
    kept_versions: int | None = Field(default=None, ge=1, le=MAX_KEPT)


class AsyncFedED(Strategy):
    """x <- x + λ / (γ + ε) · Δ for every update, with γ = ‖x - x_base‖ / ‖Δ‖.

    λ is ``aggregation.mixing``: with ε = 1 that part of an update is added which is not stale. Staleness in versions
    plays no part; the distance that the model has gone since the device fetched it does, so versions that barely moved
    it cost little. The paper's second half, which adapts the devices' local epochs to γ, is not here.

    The distance needs the old version, and memory must not grow with the staleness: ``kept_versions`` are kept. For an
    update that is older, the oldest of them stands in for its base, which makes γ too small rather than too large.

    Args:
        layout, initial: as of ``Strategy``.
        mixing: λ, above 0 and at most 1.
        epsilon: ε, above 0.
        kept_versions: how many old versions are kept.

    Raises:
        SpecError: a setting lies outside of its range.

    >>> import numpy as np
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> from fl_core.vectors import Delta
    >>> strategy = AsyncFedED(Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)), mixing=1.0)
    >>> strategy.offer(Contribution(Delta(np.array([2.0], np.float32)), 10, 0, "fresh"))
    Merge(version=1, num_updates=1, staleness=(0,), weights=(1.0,))
    >>> strategy.offer(Contribution(Delta(np.array([2.0], np.float32)), 10, 1, "stale"))
    Merge(version=2, num_updates=1, staleness=(1,), weights=(0.5,))
    >>> strategy.parameters.values.tolist()
    [3.0]
    """

    name = "asyncfeded"

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        mixing: float = 0.6,
        epsilon: float = 1.0,
        kept_versions: int = 10,
    ) -> None:
        super().__init__(layout, initial)
        if not 0 < mixing <= 1:
            raise SpecError(f"mixing = {mixing!r} is not accepted; give a number above 0 and at most 1.")
        args = parse_section(AsyncFedEDArgs, {"epsilon": epsilon, "kept_versions": kept_versions}, "AsyncFedED")
        self._mixing = mixing
        self._epsilon = args.epsilon
        self._given: int | None = kept_versions
        self.held_vectors = kept_versions
        self._old = OldVersions(kept_versions)

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """Without ``kept_versions`` as many are kept as tasks are out."""
        args = read_args(spec, AsyncFedEDArgs)
        # With equal devices an update is concurrency - 1 versions old: below that most bases would be stand-ins.
        kept = args.kept_versions or versions_in_flight(spec)
        strategy = cls(layout, initial, mixing=spec.aggregation.mixing, epsilon=args.epsilon, kept_versions=kept)
        strategy._given = args.kept_versions
        return strategy

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add λ / (γ + ε) Δ; every update merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        delta, values = contribution.delta.vector, self.parameters.values
        rate = self._mixing / (self._distance(contribution.staleness, norm_and_finite(delta)) + self._epsilon)
        self._old.keep(values)
        add_scaled(values, delta, rate)
        self.version += 1
        return Merge(self.version, 1, (contribution.staleness,), (rate,))

    def _distance(self, staleness: int, length: float) -> float:
        """γ; 0 for an update of length 0, which moves nothing at any rate."""
        base = self._old.base(staleness)
        if base is None or length == 0:
            return 0.0
        return norm_and_finite(self.parameters.values, minus=base) / length

    def slow(self, factor: float) -> None:
        """Make λ as much smaller."""
        self._mixing *= factor

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views."""
        tensors, meta = self._old.export_state()
        tensors["parameters"] = self.parameters.values
        return tensors, {"strategy": self.name, "version": self.version, **meta}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another strategy or another model.
        """
        verify_strategy(self.name, meta)
        super().restore_state(tensors, meta)
        # A state without the number was written when the default was 8: what its log says goes on to the same bits.
        self._old.restore_state(tensors, meta, like=self.parameters.values, num_kept=self._given or 8)
