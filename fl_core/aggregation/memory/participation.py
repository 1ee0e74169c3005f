"""Who takes part how often: fast devices send more updates, and their data would pull the model their way.

Weighting by the inverse of the frequency is importance sampling: with exponent 1 every device counts the same in
expectation, however fast it is. Ma, Tu, Chen and Reddi, "FedStaleWeight", 2024, arXiv 2406.02877, reach for the same
end through each device's mean staleness, where this counts its updates.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt


class Participation:
    """w_i = (mean share / share_i)^fairness, held within [1 / limit, limit].

    share_i is worker i's part of the last ``window`` updates, this one included; the mean share is one over the number
    of workers among them. So memory is bounded, and a device that left is forgotten.

    Args:
        fairness: 0 makes every weight 1; 1 lets every device count the same.
        limit: above 1. Bounds what a device that is seldom heard of can weigh.
        window: how many updates are counted.

    >>> participation = Participation(fairness=1.0, limit=5.0, window=100)
    >>> [participation.weight(name) for name in ("fast", "fast", "fast", "slow")]
    [1.0, 1.0, 1.0, 2.0]
    """

    def __init__(self, fairness: float, limit: float, window: int) -> None:
        self._fairness = fairness
        self._limit = limit
        self._recent: deque[str] = deque(maxlen=window)
        self._counts: Counter[str] = Counter()

    def weight(self, worker: str) -> float:
        """Count one more update of this worker, and say what it weighs."""
        if self._fairness == 0:
            return 1.0
        if len(self._recent) == self._recent.maxlen:
            oldest = self._recent[0]
            self._counts[oldest] -= 1
            if self._counts[oldest] == 0:
                del self._counts[oldest]
        self._recent.append(worker)
        self._counts[worker] += 1
        ratio = len(self._recent) / (len(self._counts) * self._counts[worker])
        return float(min(max(ratio**self._fairness, 1.0 / self._limit), self._limit))

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The workers of the last updates, the oldest first."""
        return {}, {"recent": list(self._recent)}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood."""
        self._recent.clear()
        self._recent.extend(meta["recent"])
        self._counts = Counter(self._recent)
