"""FedBuff: updates wait in a buffer of K, whatever version they started from, and a full buffer makes a version.

Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022, arXiv 2106.06639, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy.typing as npt

from fl_core.aggregation.buffered_model import BufferedModel, verify_strategy
from fl_core.aggregation.contribution import Contribution
from fl_core.aggregation.staleness import staleness_weight
from fl_core.aggregation.strategy import Merge, Tensors, verify_no_args
from fl_core.layout import Layout
from fl_core.spec import CampaignSpec
from fl_core.vectors import Parameters


class FedBuff:
    """x <- x + η_g · Σ s(τ_i) Δ_i / K, where the server optimizer is SGD with rate η_g.

    The sum is divided by K as published, not by the sum of the staleness weights: a buffer of stale updates makes a
    short step. With ``example_weighting`` the mean is Σ s(τ_i) n_i Δ_i / Σ n_i, which is the paper's where all n_i are
    equal. A flush at the end merges fewer than K, and takes the part of a step that they are of a full buffer: it still
    divides by K (by K times the mean n_i with ``example_weighting``). Dividing by their number instead would give one
    last device's data the weight of K.

    >>> import numpy as np
    >>> from fl_core.layout import TensorSpec
    >>> from fl_core.vectors import Delta
    >>> spec = CampaignSpec.model_validate({"model": {"factory": "a:b"}, "aggregation": {"buffer_size": 2}})
    >>> strategy = FedBuff(spec, Layout((TensorSpec("w", (1,)),)), Parameters(np.zeros(1, np.float32)))
    >>> strategy.offer(Contribution(Delta(np.array([1.0], np.float32)), 10, 0, "fresh"))
    >>> strategy.offer(Contribution(Delta(np.array([1.0], np.float32)), 10, 3, "stale"))
    Merge(version=1, num_updates=2, staleness=(0, 3), weights=(1.0, 0.5))
    >>> strategy.parameters.values.tolist()
    [0.75]
    """

    sends: Literal["delta", "parameters"] = "delta"
    barrier = False

    def __init__(self, spec: CampaignSpec, layout: Layout, initial: Parameters) -> None:
        verify_no_args(spec)
        self._model = BufferedModel(spec.server_optimizer, layout, initial)
        self._buffer_size = spec.aggregation.buffer_size
        self._example_weighting = spec.aggregation.example_weighting
        self._staleness_weight = staleness_weight(spec.aggregation)

    @property
    def version(self) -> int:
        """How many merges the model has had."""
        return self._model.version

    @property
    def parameters(self) -> Parameters:
        """The current version, changed in place by the next merge."""
        return self._model.parameters

    @property
    def buffer_count(self) -> int:
        """How many updates wait, below K."""
        return self._model.buffer.count

    def offer(self, contribution: Contribution) -> Merge | None:
        """Add s(τ_i) Δ_i, or s(τ_i) n_i Δ_i; the K-th merges.

        Raises:
            InvariantError: the contribution is not a delta.
        """
        example_weight = contribution.num_examples if self._example_weighting else 1
        self._model.buffer.add(
            contribution.delta,
            weight=self._staleness_weight(contribution.staleness) * example_weight,
            num_examples=contribution.num_examples,
            staleness=contribution.staleness,
        )
        return self.flush() if self._model.buffer.count >= self._buffer_size else None

    def flush(self, share: float = 1.0) -> Merge | None:
        """Merge what waits, however few; None when nothing does. There is no cohort: K alone sets the step."""
        buffer = self._model.buffer
        if buffer.count == 0:
            return None
        full = self._buffer_size
        return self._model.merge(buffer.example_total * full / buffer.count if self._example_weighting else full)

    def export_state(self) -> tuple[Tensors, dict[str, Any]]:
        """All state; the arrays are views."""
        tensors, meta = self._model.export_state()
        return tensors, {"strategy": "fedbuff", **meta}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the state is of another strategy or another model.
        """
        verify_strategy("fedbuff", meta)
        self._model.restore_state(tensors, meta)
