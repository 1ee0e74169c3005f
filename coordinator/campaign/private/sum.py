"""The sum of the updates that wait for a merge, on the integer grid: never the updates themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_core.errors import CampaignError
from fl_core.privacy.adaptive_clip import bit
from fl_core.privacy.grid import IntArray, to_grid
from fl_core.vectors import Vector
from fl_core.vectors.arithmetic import norm_and_finite

SUM = "privacy.sum"
"""The array's name in a checkpoint."""


class ClippedSum:
    """Σ of clipped updates in one int64 vector, and what has to be known of each until the merge.

    Args:
        num_parameters: how many elements an update has.
        count_bits: whether the clip follows the updates' norms.

    Attributes:
        total: the sum; of no meaning while ``count`` is 0.
        workers, staleness, weights: of each update, in the order of arrival.
        evidence: what stands for each in the transcript (``transcript.py``).
        bits: Σ of whether each was within the clip, as ``adaptive_clip`` reckons it.
    """

    def __init__(self, num_parameters: int, *, count_bits: bool = False) -> None:
        self._size = num_parameters
        self._count_bits = count_bits
        self.clear()

    def clear(self) -> None:
        """Forget all of it."""
        self.total: IntArray = np.zeros(0, np.int64)
        self.workers: list[str] = []
        self.staleness: list[int] = []
        self.weights: list[float] = []
        self.evidence: list[bytes] = []
        self.bits = 0

    @property
    def count(self) -> int:
        """How many updates wait."""
        return len(self.workers)

    def add(self, vector: Vector, *, clip: float, weight: float, staleness: int, worker: str, evidence: bytes) -> None:
        """Clip one update to ``clip``, and add it with its weight."""
        steps = to_grid(vector, clip, weight)
        if self.count:
            np.add(self.total, steps, out=self.total)
        else:
            self.total = steps
        if self._count_bits:
            self.bits += bit(norm_and_finite(vector), clip)
        self.workers.append(worker)
        self.staleness.append(staleness)
        self.weights.append(weight)
        self.evidence.append(evidence)

    def export(self) -> tuple[dict[str, IntArray], dict[str, Any]]:
        """The sum (a view; left out where nothing waits), and plain values."""
        meta = {name: list(getattr(self, name)) for name in ("workers", "staleness", "weights", "evidence")}
        return ({SUM: self.total} if self.count else {}), {**meta, "bits": self.bits}

    def restore(self, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``.

        Raises:
            CampaignError: the sum is missing, or of another model.
        """
        for name in ("workers", "staleness", "weights", "evidence"):
            setattr(self, name, list(meta[name]))
        self.bits = meta["bits"]
        if self.count:
            total = tensors.get(SUM)
            if total is None or total.shape != (self._size,):
                raise CampaignError("The checkpoint's private sum is missing or of another model; launch anew.")
            self.total = np.array(total, np.int64)
