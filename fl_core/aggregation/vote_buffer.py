"""The buffer of the robust rules: the updates themselves, side by side, one row for each worker.

A rule that compares updates needs them all at once. And in a campaign without a barrier a fast worker can send many
updates into one buffer: its row is their mean, so that it has one vote among the others, however fast it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.strategy import restore_vector
from fl_core.errors import InvariantError
from fl_core.vectors import Delta, FloatArray
from fl_core.vectors.arithmetic import add_scaled, divide, scale_into


class VoteBuffer:
    """Up to ``max_votes`` rows of float32, each the sum of one worker's deltas until ``votes`` makes it their mean.

    Attributes:
        staleness: τ_i of each update, in the order of arrival.
        weights: s(τ_i) of each; the rows are not multiplied by it.

    >>> buffer = VoteBuffer(max_votes=2, num_elements=1)
    >>> for worker, value in (("fast", 1.0), ("fast", 3.0), ("slow", 5.0)):
    ...     buffer.add(Delta(np.array([value], np.float32)), worker=worker, weight=1.0, staleness=0)
    >>> buffer.count, buffer.num_votes, buffer.votes().tolist()
    (3, 2, [[2.0], [5.0]])
    """

    def __init__(self, max_votes: int, num_elements: int) -> None:
        self._rows: FloatArray = np.empty((max_votes, num_elements), np.float32)
        self._updates: dict[str, int] = {}  # how many of each worker; its place is its row
        self._weight_sums: list[float] = []  # by row
        self.staleness: list[int] = []
        self.weights: list[float] = []

    @property
    def count(self) -> int:
        """How many updates are in it."""
        return len(self.weights)

    @property
    def num_votes(self) -> int:
        """How many workers they are of."""
        return len(self._updates)

    def add(self, delta: Delta, *, worker: str, weight: float, staleness: int) -> None:
        """Add one update to its worker's row.

        Raises:
            InvariantError: the delta has another size, or there is no row left.
        """
        if worker in self._updates:
            place = list(self._updates).index(worker)
            add_scaled(self._rows[place], delta.vector, 1.0)
            self._weight_sums[place] += weight
        elif self.num_votes == len(self._rows):
            raise InvariantError(f"A vote of {worker!r} came into a full buffer.")
        else:
            scale_into(self._rows[self.num_votes], delta.vector, 1.0)
            self._weight_sums.append(weight)
        self._updates[worker] = self._updates.get(worker, 0) + 1
        self.staleness.append(staleness)
        self.weights.append(weight)

    def votes(self) -> FloatArray:
        """Each worker's mean delta, ``(num_votes, num_elements)``, in place: call it once, and ``clear`` next."""
        for row, num_updates in zip(self._rows, self._updates.values(), strict=False):
            divide(row, num_updates)
        return self._rows[: self.num_votes]

    def vote_weight(self) -> float:
        """The mean over the votes of their s(τ); a vote's is the mean over its updates."""
        counts = self._updates.values()
        return math.fsum(total / count for total, count in zip(self._weight_sums, counts, strict=True)) / len(counts)

    def clear(self) -> None:
        """Empty it; the memory stays."""
        self._updates = {}
        self._weight_sums = []
        self.staleness = []
        self.weights = []

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The rows in use (a view; left out when there are none), and whose they are."""
        tensors: dict[str, npt.NDArray[Any]] = {"rows": self._rows[: self.num_votes]} if self._updates else {}
        meta = {
            "workers": list(self._updates),
            "num_updates": list(self._updates.values()),
            "staleness": list(self.staleness),
            "weights": list(self.weights),
            "weight_sums": list(self._weight_sums),
        }
        return tensors, meta

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the rows are missing, or there are more of them or longer ones.
        """
        self._updates = dict(zip(meta["workers"], (int(number) for number in meta["num_updates"]), strict=True))
        self.staleness = [int(value) for value in meta["staleness"]]
        self.weights = [float(value) for value in meta["weights"]]
        # A checkpoint of an earlier version does not say whose weights they are: their mean stands for each.
        mean = math.fsum(self.weights) / len(self.weights) if self.weights else 0.0
        sums = meta.get("weight_sums") or [mean * count for count in self._updates.values()]
        self._weight_sums = [float(value) for value in sums]
        if self._updates:
            restore_vector(self._rows[: self.num_votes], tensors, "rows")
