"""The last update of each worker, for a bounded number of them; the one silent for longest is forgotten first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.errors import CampaignError
from fl_core.vectors import Delta, FloatArray
from fl_core.vectors.arithmetic import add_scaled, scale_into


class UpdateCache:
    """One float32 vector of shape ``(num_elements,)`` per remembered worker.

    A worker is a *newcomer* from its first update until ``no_newcomers`` is called.

    >>> cache = UpdateCache(max_cached=2, num_elements=1)
    >>> for value, worker in enumerate("abca"):
    ...     cache.put(worker, Delta(np.array([value], np.float32)))
    >>> cache.get("b"), cache.get("a").tolist(), cache.num_before
    (None, [3.0], 0)
    >>> cache.sum().tolist()
    [5.0]
    """

    def __init__(self, max_cached: int, num_elements: int) -> None:
        self._max_cached = max_cached
        self._num_elements = num_elements
        self._updates: dict[str, FloatArray] = {}  # in the order in which they were last heard of
        self._newcomers: set[str] = set()

    @property
    def num_before(self) -> int:
        """How many workers are remembered that are no newcomers."""
        return len(self._updates) - len(self._newcomers)

    def get(self, worker: str) -> FloatArray | None:
        """The worker's last update; None for one that is not remembered."""
        return self._updates.get(worker)

    def put(self, worker: str, delta: Delta) -> None:
        """Remember it in place of the worker's update before."""
        if self._max_cached == 0:
            return
        memory = self._updates.pop(worker, None)
        if memory is None:
            self._newcomers.add(worker)
            if len(self._updates) == self._max_cached:
                silent = next(iter(self._updates))
                memory = self._updates.pop(silent)
                self._newcomers.discard(silent)
            else:
                memory = np.empty(self._num_elements, np.float32)
        scale_into(memory, delta.vector, 1.0)
        self._updates[worker] = memory

    def no_newcomers(self) -> None:
        """From now on all that are remembered were there before."""
        self._newcomers.clear()

    def sum(self) -> FloatArray:
        """The sum of all that is remembered, in a vector of its own."""
        total: FloatArray = np.zeros(self._num_elements, np.float32)
        for update in self._updates.values():
            add_scaled(total, update, 1.0)
        return total

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The vectors by their place in the order, as views, and the names in that order."""
        tensors: dict[str, npt.NDArray[Any]] = {str(place): array for place, array in enumerate(self._updates.values())}
        return tensors, {"workers": list(self._updates), "newcomers": sorted(self._newcomers)}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: a vector is missing or has another size.
        """
        updates: dict[str, FloatArray] = {}
        for place, worker in enumerate(meta["workers"]):
            array = tensors.get(str(place))
            if array is None or array.shape != (self._num_elements,):
                raise CampaignError(
                    f"The checkpoint's cached updates do not fit a model of {self._num_elements} elements; "
                    "resume with the spec that wrote it."
                )
            updates[worker] = np.array(array, np.float32)
        self._updates = updates
        self._newcomers = set(meta["newcomers"])
