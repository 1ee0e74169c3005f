"""AsyncFedED: an update counts the less, the further the model has moved meanwhile, measured in lengths of the update.

Wang, Yang, He, Shi and Chen, "AsyncFedED: Asynchronous Federated Learning with Euclidean Distance based Adaptive Weight
Aggregation", 2022, arXiv 2205.13797.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy.typing as npt
from pydantic import Field

from fl_core.aggregation.buffered import restore_vector, verify_strategy
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.memory.old_versions import MAX_KEPT, OldVersions, versions_in_flight
from fl_core.aggregation.strategy import Merge, Tensors, read_args, verify_unread
from fl_core.spec import CampaignSpec, Section
from fl_core.vectors import Parameters
from fl_core.vectors.arithmetic import add_scaled, norm_and_finite
from fl_core.vectors.layout import Layout


class AsyncFedEDArgs(Section):
    """``[aggregation.args]``: ε, and how many old versions are kept, in as many vectors of the model's size.

    Without ``kept_versions`` as many are kept as tasks are out at a time, ``dispatch.concurrency``, and at most 1000.
    """

    epsilon: float = Field(default=1.0, gt=0)
    kept_versions: int | None = Field(default=None, ge=1, le=MAX_KEPT)


class AsyncFedED:
    """x <- x + λ / (γ + ε) · Δ for every update, with γ = ‖x - x_base‖ / ‖Δ‖.

    λ is ``aggregation.mixing``: with ε = 1 that part of an update is added which is not stale. Staleness in versions
    plays no part; the distance that the model has gone since the device fetched it does, so versions that barely moved
    it cost little. The paper's second half, which adapts the devices' local epochs to γ, is not here.

    The distance needs the old version, and memory must not grow with the staleness: ``kept_versions`` are kept. For an
    update that is older, the oldest of them stands in for its base, which makes γ too small rather than too large.

    >>> import numpy as np
    >>> from fl_core.vectors.tensor_spec import TensorSpec
    >>> from fl_core.vectors import Delta
    >>> aggregation = {"strategy": "asyncfeded", "mixing": 1.0}
    >>> spec = CampaignSpec.model_validate({"model": {"factory": "a:b"}, "aggregation": aggregation})
    >>> strategy = AsyncFedED(spec, Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)))
    >>> strategy.offer(Contribution(Delta(np.array([2.0], np.float32)), 10, 0, "fresh"))
    Merge(version=1, num_updates=1, staleness=(0,), weights=(1.0,))
    >>> strategy.offer(Contribution(Delta(np.array([2.0], np.float32)), 10, 1, "stale"))
    Merge(version=2, num_updates=1, staleness=(1,), weights=(0.5,))
    >>> strategy.parameters.values.tolist()
    [3.0]
    """

    name = "asyncfeded"
    sends: Literal["delta"] = "delta"
    barrier = False
    buffer_count = 0

    def __init__(self, spec: CampaignSpec, layout: Layout, initial: Parameters) -> None:
        args = read_args(spec, AsyncFedEDArgs)
        verify_unread(
            spec,
            "aggregation.example_weighting",
            *(f"server_optimizer.{key}" for key in type(spec.server_optimizer).model_fields),
        )
        self._mixing = spec.aggregation.mixing
        self._epsilon = args.epsilon
        # With equal devices an update is concurrency - 1 versions old: below that most bases would be stand-ins.
        self._given = args.kept_versions
        self.held_vectors = args.kept_versions or versions_in_flight(spec)
        self._old = OldVersions(self.held_vectors)
        self.parameters = initial
        self.version = 0

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

    def flush(self, share: float = 1.0) -> Merge | None:
        """Nothing ever waits: None."""
        return None

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
        restore_vector(self.parameters.values, tensors, "parameters")
        # A state without the number was written when the default was 8: what its log says goes on to the same bits.
        self._old.restore_state(tensors, meta, like=self.parameters.values, num_kept=self._given or 8)
        self.version = int(meta["version"])
