"""A strategy: every update moves the model at once, but none further than updates usually go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedtide import Contribution, Layout, Merge, Parameters, Strategy


class Steady(Strategy):
    """x <- x + rate · Δ / √(1 + τ), with Δ shortened to the median norm of the last ``window`` updates.

    Args:
        layout, initial: what every strategy gets.
        rate, window: ``[aggregation.args]``.
    """

    def __init__(self, layout: Layout, initial: Parameters, rate: float = 0.5, window: int = 20) -> None:
        super().__init__(layout, initial)
        if not 0 < rate <= 1 or window < 1:
            raise ValueError(f"rate = {rate} and window = {window}; give a rate in (0, 1] and a window of 1 or more")
        self._rate = rate
        self._window = window
        self._norms: list[float] = []

    def offer(self, contribution: Contribution) -> Merge | None:
        """Every update makes a version."""
        delta = contribution.delta.values
        norm = float(np.linalg.norm(delta.astype(np.float64)))
        self._norms = [*self._norms, norm][-self._window :]
        usual = float(np.median(self._norms))
        weight = self._rate / (1 + contribution.staleness) ** 0.5 * min(1.0, usual / norm if norm else 1.0)
        self.parameters.values[:] += np.float32(weight) * delta
        self.version += 1
        return Merge(self.version, 1, (contribution.staleness,), (weight,))

    def slow(self, factor: float) -> None:
        """The guard went back to an earlier version: shorter steps from here on."""
        self._rate *= factor

    def export_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All that the next merge depends on: a resumed campaign goes on to the same bits."""
        tensors, meta = super().export_state()
        return tensors, {**meta, "norms": list(self._norms)}

    def restore_state(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """The inverse."""
        super().restore_state(tensors, meta)
        self._norms = [float(norm) for norm in meta["norms"]]
