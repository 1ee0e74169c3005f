"""A softmax-weighted mean of updates that arrive one by one, in the memory of one vector.

The weights exp(s_i / T) are kept relative to the largest score so far. When a larger one comes, the sum is scaled down
once and nothing overflows, so no update has to wait beside the sum for the scores of the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.strategy import restore_vector
from fl_core.errors import InvariantError
from fl_core.vectors import Delta, FloatArray
from fl_core.vectors.arithmetic import Segments, divide, scale_and_add


class SoftmaxBuffer:
    """Σ_i α_i c_i Δ_i with α = softmax(s / T), for each segment of the vector with its own scores.

    Args:
        num_elements: of the vector.
        segments: the parts that have scores of their own; they cover the vector.
        temperature: T, above 0. Large values bring the plain mean, small ones the update with the largest score.

    Attributes:
        staleness: τ_i of each update, in the order of arrival.

    >>> buffer = SoftmaxBuffer(2, [slice(0, 2)], temperature=1.0)
    >>> for value, score in ((1.0, 0.0), (5.0, math.log(3.0))):
    ...     buffer.add(Delta(np.full(2, value, np.float32)), [score], factor=1.0, staleness=0)
    >>> [round(weight, 6) for weight in buffer.weights], buffer.mean(1.0).values.tolist()
    ([0.25, 0.75], [4.0, 4.0])
    """

    def __init__(self, num_elements: int, segments: Sequence[slice], temperature: float) -> None:
        self._sum: FloatArray = np.zeros(num_elements, np.float32)
        self._segments = Segments(segments, num_elements)
        self._temperature = temperature
        self._scores: list[list[float]] = []
        self.staleness: list[int] = []

    @property
    def count(self) -> int:
        """How many updates are in it."""
        return len(self._scores)

    @property
    def weights(self) -> list[float]:
        """The mean of α_i over the segments, for each update; their sum is 1."""
        attention = [softmax(scores, self._temperature) for scores in zip(*self._scores, strict=True)]
        return [math.fsum(alphas) / len(alphas) for alphas in zip(*attention, strict=True)]

    def add(self, delta: Delta, scores: Sequence[float], *, factor: float, staleness: int) -> None:
        """Take one update in.

        Args:
            delta: Δ_i.
            scores: s_i for each segment, finite.
            factor: c_i, which does not take part in the softmax.
            staleness: τ_i.

        Raises:
            InvariantError: the delta has another size, or there are not as many scores as segments.
        """
        if len(scores) != self._segments.count:
            raise InvariantError(f"{len(scores)} scores came for {self._segments.count} segments.")
        keep, weights = [], []
        for before, score in zip(self._largest(), scores, strict=True):
            largest = max(before, score)
            keep.append(math.exp((before - largest) / self._temperature))
            weights.append(factor * math.exp((score - largest) / self._temperature))
        scale_and_add(self._sum, delta.vector, self._segments, keep, weights)
        self._scores.append([float(score) for score in scores])
        self.staleness.append(staleness)

    def mean(self, share: float) -> Delta:
        """share · Σ α_i c_i Δ_i, computed in place: of no use as a sum afterwards, so ``clear`` next.

        Raises:
            InvariantError: the buffer is empty.
        """
        if not self._scores:
            raise InvariantError("The mean of an empty buffer was asked for.")
        for segment, scores in zip(self._segments.slices, zip(*self._scores, strict=True), strict=True):
            largest = max(scores)
            total = math.fsum(math.exp((score - largest) / self._temperature) for score in scores)
            divide(self._sum[segment], total / share)
        return Delta(self._sum)

    def clear(self) -> None:
        """Empty it; the memory stays."""
        self._sum.fill(0)
        self._scores = []
        self.staleness = []

    def _largest(self) -> list[float]:
        if not self._scores:
            return [-math.inf] * self._segments.count
        return [max(scores) for scores in zip(*self._scores, strict=True)]

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The sum (a view; left out when the buffer is empty), scores and staleness."""
        tensors: dict[str, npt.NDArray[Any]] = {"sum": self._sum} if self._scores else {}
        return tensors, {"scores": [list(scores) for scores in self._scores], "staleness": list(self.staleness)}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the sum is missing or has another size.
        """
        self.clear()
        if meta["scores"]:
            restore_vector(self._sum, tensors, "sum")
        self._scores = [[float(score) for score in scores] for scores in meta["scores"]]
        self.staleness = [int(value) for value in meta["staleness"]]


def softmax(scores: Sequence[float], temperature: float) -> list[float]:
    """exp(s_i / T) / Σ exp(s_j / T).

    >>> softmax([0.0, 0.0], temperature=2.0)
    [0.5, 0.5]
    """
    largest = max(scores)
    powers = [math.exp((score - largest) / temperature) for score in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]
