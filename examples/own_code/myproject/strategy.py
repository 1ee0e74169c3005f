"""A strategy: every update moves the model at once, but none further than updates usually go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from fedtide import CampaignSpec, Contribution, FloatArray, Layout, Merge, Parameters, Section, read_args


class SteadyArgs(Section):
    """``[aggregation.args]``: the rate, and how many past norms say what is usual."""

    rate: float = Field(default=0.5, gt=0, le=1)
    window: int = Field(default=20, ge=1)


class Steady:
    """x <- x + rate · Δ / √(1 + τ), with Δ shortened to the median norm of the last ``window`` updates."""

    sends = "delta"
    barrier = False
    buffer_count = 0

    def __init__(self, spec: CampaignSpec, layout: Layout, initial: Parameters) -> None:
        self._args = read_args(spec, SteadyArgs)
        self._norms: list[float] = []
        self.parameters = initial
        self.version = 0

    def offer(self, contribution: Contribution) -> Merge | None:
        """Every update makes a version."""
        delta = contribution.delta.values
        norm = float(np.linalg.norm(delta.astype(np.float64)))
        self._norms = [*self._norms, norm][-self._args.window :]
        usual = float(np.median(self._norms))
        weight = self._args.rate / (1 + contribution.staleness) ** 0.5 * min(1.0, usual / norm if norm else 1.0)
        self.parameters.values[:] += np.float32(weight) * delta
        self.version += 1
        return Merge(self.version, 1, (contribution.staleness,), (weight,))

    def flush(self, share: float = 1.0) -> Merge | None:
        """Nothing ever waits."""
        return None

    def export_state(self) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        """All that the next merge depends on: a resumed campaign goes on to the same bits."""
        return {"parameters": self.parameters.values}, {"version": self.version, "norms": list(self._norms)}

    def restore_state(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """The inverse."""
        self.parameters.values[:] = tensors["parameters"]
        self.version = int(meta["version"])
        self._norms = [float(norm) for norm in meta["norms"]]
