"""FedAsync: every update makes a version, by mixing the device's parameters into the model.

Xie, Koyejo and Gupta, "Asynchronous Federated Optimization", 2019, arXiv 1903.03934, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy.typing as npt

from fl_core.aggregation.buffered import restore_vector, verify_strategy
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.memory.old_versions import OldVersions, versions_in_flight
from fl_core.aggregation.staleness import staleness_weight
from fl_core.aggregation.strategy import Merge, Tensors, verify_no_args
from fl_core.errors import SpecError
from fl_core.spec import CampaignSpec, ServerOptimizerSection
from fl_core.vectors import FloatArray, Parameters
from fl_core.vectors.arithmetic import mix
from fl_core.vectors.layout import Layout


class FedAsync:
    """x <- (1 - α_τ) x + α_τ x_new with α_τ = α · s(τ), where α is ``aggregation.mixing``.

    Devices send parameters, not deltas. There is no buffer, no server optimizer and no example weight in this
    algorithm, so a spec that sets one of the latter two is refused.

    The algorithm itself needs no old version. ``aggregation.max_update_norm``, which bounds how far a device has moved
    from the version that it started from, does: where it is set, as many are kept as tasks are out
    (``dispatch.concurrency``, at most 1000), and for an update that is older the oldest of them stands in.

    Raises:
        SpecError: ``server_optimizer`` is not the default, or ``aggregation.example_weighting`` is set.

    >>> import numpy as np
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> spec = CampaignSpec.model_validate({"model": {"factory": "a:b"}, "aggregation": {"strategy": "fedasync"}})
    >>> strategy = FedAsync(spec, Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)))
    >>> strategy.offer(Contribution(Parameters(np.array([10.0], np.float32)), 1, 3, "worker"))
    Merge(version=1, num_updates=1, staleness=(3,), weights=(0.3,))
    >>> strategy.parameters.values.tolist()
    [3.0]
    """

    sends: Literal["delta", "parameters"] = "parameters"
    barrier = False
    buffer_count = 0

    def __init__(self, spec: CampaignSpec, layout: Layout, initial: Parameters) -> None:
        verify_no_args(spec)
        if spec.server_optimizer != ServerOptimizerSection():
            raise SpecError(
                f"server_optimizer.name = {spec.server_optimizer.name!r} (or another of its keys) is set, and FedAsync "
                "has no server optimizer; remove [server_optimizer] and set aggregation.mixing."
            )
        if spec.aggregation.example_weighting:
            raise SpecError(
                "aggregation.example_weighting = True has no meaning in FedAsync, which merges one update at a time; "
                "remove it."
            )
        self._mixing = spec.aggregation.mixing
        self._staleness_weight = staleness_weight(spec.aggregation)
        num_kept = 0 if spec.aggregation.max_update_norm is None else versions_in_flight(spec)
        self.held_vectors = max(1, num_kept)
        self._old = OldVersions(num_kept) if num_kept else None
        self.parameters = initial
        self.version = 0

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

    def base(self, staleness: int) -> FloatArray | None:
        """The weights that an update of that staleness started from; None for the present ones, or if none are kept."""
        return None if self._old is None else self._old.base(staleness)

    def flush(self, share: float = 1.0) -> Merge | None:
        """Nothing ever waits: None."""
        return None

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
        restore_vector(self.parameters.values, tensors, "parameters")
        if self._old is not None:
            # A state of an earlier release holds no old versions: they are kept from here on.
            self._old.restore_state(tensors, meta, like=self.parameters.values, num_kept=self.held_vectors)
        self.version = int(meta["version"])
