"""FedAsync: every update makes a version, by mixing the device's parameters into the model.

Xie, Koyejo and Gupta, "Asynchronous Federated Optimization", 2019, arXiv 1903.03934, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy.typing as npt

from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.memory.old_versions import OldVersions, versions_in_flight
from fl_core.aggregation.staleness import StalenessWeight, polynomial, staleness_weight
from fl_core.aggregation.strategy import Merge, Strategy, Tensors, verify_strategy
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.arithmetic import mix
from fl_core.vectors.layout import Layout


class FedAsync(Strategy):
    """x <- (1 - α_τ) x + α_τ x_new with α_τ = α · s(τ), where α is ``aggregation.mixing``.

    Devices send parameters, not deltas. There is no buffer, no server optimizer and no example weight in this
    algorithm; ``fl_core/spec/combinations.py`` refuses a spec that sets one of the latter two.

    The algorithm itself needs no old version. ``aggregation.max_update_norm``, which bounds how far a device has moved
    from the version that it started from, does: where it is set, as many are kept as tasks are out
    (``dispatch.concurrency``, at most 1000), and for an update that is older the oldest of them stands in.

    Args:
        layout, initial: as of ``Strategy``.
        mixing: α, above 0 and at most 1.
        staleness: s(τ).
        kept_versions: how many old versions are kept to measure an update from; 0 for none.

    Raises:
        SpecError: α lies outside of its range.

    >>> import numpy as np
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> strategy = FedAsync(Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)))
    >>> strategy.offer(Contribution(Parameters(np.array([10.0], np.float32)), 1, 3, "worker"))
    Merge(version=1, num_updates=1, staleness=(3,), weights=(0.3,))
    >>> strategy.parameters.values.tolist()
    [3.0]
    """

    sends = "parameters"

    def __init__(
        self,
        layout: Layout,
        initial: Parameters,
        *,
        mixing: float = 0.6,
        staleness: StalenessWeight = polynomial(0.5),
        kept_versions: int = 0,
    ) -> None:
        super().__init__(layout, initial)
        if not 0 < mixing <= 1:
            raise SpecError(f"mixing = {mixing!r} is not accepted; give a number above 0 and at most 1.")
        self._mixing = mixing
        self._staleness_weight = staleness
        self.held_vectors = max(1, kept_versions)
        self._old = OldVersions(kept_versions) if kept_versions else None

    @classmethod
    def from_spec(cls, spec: CampaignSpec, layout: Layout, initial: Parameters) -> Self:
        """Old versions are kept where ``aggregation.max_update_norm`` asks how far an update has moved."""
        return cls(
            layout,
            initial,
            mixing=spec.aggregation.mixing,
            staleness=staleness_weight(spec.aggregation),
            kept_versions=0 if spec.aggregation.max_update_norm is None else versions_in_flight(spec),
        )

    def offer(self, contribution: Contribution) -> Merge | None:
        """Mix x_new in; every update merges.

        Raises:
            InvariantError: the contribution is a delta.
        """
        alpha = self._mixing * self._staleness_weight(contribution.staleness)
        if self._old is not None:
            self._old.keep(self.parameters.values)
        mix(self.parameters.values, contribution.parameters.vector, alpha)
        self.version += 1
        return Merge(self.version, 1, (contribution.staleness,), (alpha,))

    def base_weights(self, staleness: int) -> FloatArray:
        """The weights that an update of that staleness started from; the present ones where none are kept."""
        kept = None if self._old is None else self._old.base(staleness)
        return self.parameters.values if kept is None else kept

    def slow(self, factor: float) -> None:
        """Make α as much smaller."""
        self._mixing *= factor

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views."""
        tensors, meta = ({}, {}) if self._old is None else self._old.export_state()
        tensors["parameters"] = self.parameters.values
        return tensors, {"strategy": "fedasync", "version": self.version, **meta}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another strategy or another model.
        """
        verify_strategy("fedasync", meta)
        super().restore_state(tensors, meta)
        if self._old is not None:
            # A state of an earlier release holds no old versions: they are kept from here on.
            self._old.restore_state(tensors, meta, like=self.parameters.values, num_kept=self.held_vectors)
