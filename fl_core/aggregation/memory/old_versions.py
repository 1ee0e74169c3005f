"""The versions of before: what an update started from, for strategies that have to look at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.strategy import restore_vector
from fl_core.spec import CampaignSpec
from fl_core.vectors import FloatArray

MAX_KEPT = 1000


class OldVersions:
    """As many of the last versions as its number says, each a vector of the weights' size.

    >>> old, x = OldVersions(2), np.zeros(1, np.float32)
    >>> for _ in range(3):
    ...     old.keep(x)
    ...     x += 1
    >>> [old.base(staleness) for staleness in (0, 1, 2, 3)]
    [None, array([2.], dtype=float32), array([1.], dtype=float32), array([1.], dtype=float32)]
    """

    def __init__(self, num_kept: int) -> None:
        self._kept: deque[FloatArray] = deque(maxlen=num_kept)  # the newest at the right end

    def keep(self, values: FloatArray) -> None:
        """Copy the present version: the model is about to move."""
        if len(self._kept) == self._kept.maxlen:
            memory = self._kept.popleft()
            np.copyto(memory, values)
        else:
            memory = values.copy()
        self._kept.append(memory)

    def base(self, staleness: int) -> FloatArray | None:
        """What an update of that staleness started from; of one older than all that is kept, the oldest stands in.

        Returns:
            None where that is the present version, or nothing is kept.
        """
        return self._kept[-min(staleness, len(self._kept))] if staleness and self._kept else None

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """The versions, as views, and how many there are and may be."""
        tensors = {f"old.{place}": array for place, array in enumerate(self._kept)}
        return tensors, {"num_old": len(self._kept), "kept": self._kept.maxlen}

    def restore_state(
        self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], like: FloatArray, num_kept: int
    ) -> None:
        """Go on where ``export_state`` stood.

        Args:
            tensors, meta: what it gave, perhaps among others.
            like: a vector of their shape.
            num_kept: how many there may be, where an earlier release has not written it.

        Raises:
            CampaignError: a vector is missing or has another size.
        """
        self._kept = deque(maxlen=int(meta.get("kept", num_kept)))
        for place in range(int(meta.get("num_old", 0))):
            memory = np.empty_like(like)
            restore_vector(memory, tensors, f"old.{place}")
            self._kept.append(memory)


def versions_in_flight(spec: CampaignSpec) -> int:
    """How many versions tasks that are out start from, where devices are equal and each update makes a version."""
    return min(spec.dispatch.concurrency, MAX_KEPT)
