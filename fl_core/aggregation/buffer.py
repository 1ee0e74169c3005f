"""The buffer of admitted updates: their weighted sum and how many there are, never the updates themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fl_core.errors import CampaignError, InvariantError
from fl_core.vectors import Delta, FloatArray
from fl_core.vectors.arithmetic import add_scaled, divide, scale_into


class Buffer:
    """A running Σ w_i Δ_i in one float32 vector, whatever the number of devices.

    Attributes:
        count: how many deltas are in it.
        example_total: Σ n_i of those.
        staleness: τ_i of each, in the order of arrival.
        weights: w_i of each, in the order of arrival.

    >>> buffer = Buffer(2)
    >>> buffer.add(Delta(np.array([1.0, 2.0], np.float32)), weight=0.5, num_examples=10, staleness=3)
    >>> buffer.add(Delta(np.array([1.0, 0.0], np.float32)), weight=1.0, num_examples=30, staleness=0)
    >>> buffer.count, buffer.example_total, buffer.mean(2).values.tolist()
    (2, 40, [0.75, 0.5])
    """

    def __init__(self, num_elements: int) -> None:
        self._accumulator: FloatArray = np.empty(num_elements, np.float32)
        self.example_total = 0
        self.staleness: list[int] = []
        self.weights: list[float] = []

    @property
    def count(self) -> int:
        """How many deltas are in it."""
        return len(self.weights)

    def add(self, delta: Delta, *, weight: float, num_examples: int, staleness: int) -> None:
        """Σ <- Σ + weight · delta.

        Raises:
            InvariantError: the delta has another size.
        """
        if self.count == 0:
            # The accumulator holds nothing of worth: overwriting it saves the pass that would set it to zero.
            scale_into(self._accumulator, delta.vector, weight)
        else:
            add_scaled(self._accumulator, delta.vector, weight)
        self.example_total += num_examples
        self.staleness.append(staleness)
        self.weights.append(weight)

    def subtract(self, delta: Delta) -> None:
        """Σ <- Σ - delta, which counts as no update; there must be one in the sum.

        Raises:
            InvariantError: the buffer is empty, or the delta has another size.
        """
        if self.count == 0:
            raise InvariantError("Something was to be subtracted from an empty buffer.")
        add_scaled(self._accumulator, delta.vector, -1.0)

    def mean(self, divisor: float) -> Delta:
        """Σ / divisor, computed in place: the buffer's own memory, of no use as a sum afterwards, so ``clear`` next.

        Raises:
            InvariantError: the buffer is empty.
        """
        if self.count == 0:
            raise InvariantError("The mean of an empty buffer was asked for.")
        divide(self._accumulator, divisor)
        return Delta(self._accumulator)

    def clear(self) -> None:
        """Empty it; the memory stays."""
        self.example_total = 0
        self.staleness = []
        self.weights = []

    def export_state(self) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        """The accumulator (a view; left out when the buffer is empty) and plain values."""
        tensors = {"accumulator": self._accumulator} if self.count else {}
        meta = {
            "example_total": self.example_total,
            "staleness": list(self.staleness),
            "weights": list(self.weights),
        }
        return tensors, meta

    def restore_state(self, tensors: Mapping[str, FloatArray], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the accumulator is missing or has another size.
        """
        if meta["weights"]:
            accumulator = tensors.get("accumulator")
            if accumulator is None or accumulator.shape != self._accumulator.shape:
                raise CampaignError(
                    f"The checkpoint's buffer does not fit a model of {self._accumulator.size} elements; "
                    "resume with the spec that wrote it."
                )
            np.copyto(self._accumulator, accumulator)
        self.example_total = int(meta["example_total"])
        self.staleness = [int(value) for value in meta["staleness"]]
        self.weights = [float(value) for value in meta["weights"]]
