"""Which version a campaign delivers: the last one, or the one that met a target while later ones were being merged.

An evaluation says how good a version was that the model may have left since. So an ``evaluating`` event comes first:
what the strategy holds when that entry is applied is copied, and that copy is what is evaluated and, if it meets a
target, delivered. Both entries are in the log, so a resume, a standby and a replay deliver the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation import Strategy
from fl_core.spec import StopMetric
from fl_core.vectors import Parameters


class Delivery:
    """The copy, and what became of it.

    Attributes:
        pinned: the version that is being evaluated; None between evaluations.
        met: the target that the delivered version met: metric, value, bound; None where none was.
    """

    def __init__(self) -> None:
        self.pinned: int | None = None
        self._values: npt.NDArray[np.float32] | None = None
        self.met: dict[str, Any] | None = None

    def pin(self, strategy: Strategy) -> None:
        """This version is going to be evaluated."""
        self.pinned, self._values = strategy.version, strategy.parameters.values[strategy.layout.moving].copy()

    def release(self) -> None:
        """It met no target, or has been dropped as diverged."""
        if self.met is None:
            self.pinned = self._values = None

    def meet(self, version: int, target: StopMetric, value: float, strategy: Strategy) -> bool:
        """A version has met a target; whether it can be delivered, which it is from now on."""
        if self.pinned != version:
            if strategy.version != version:
                return False
            self.pin(strategy)
        self.met = {"metric": target.name, "value": value, "bound": target.bound}
        return True

    def version(self, strategy: Strategy) -> int:
        """The version that is delivered if the campaign is over now."""
        return strategy.version if self.met is None or self.pinned is None else self.pinned

    def parameters(self, strategy: Strategy) -> Parameters:
        """Its parameters."""
        if self.met is None or self._values is None:
            return strategy.parameters
        # An earlier release pinned the whole model, this one what can move.
        return Parameters(np.concatenate((self._values, strategy.parameters.values[self._values.size :])))

    def export(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """All state: arrays by name, and plain values."""
        return {} if self._values is None else {"pinned": self._values}, {"pinned": self.pinned, "met": self.met}

    def restore(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``."""
        self.pinned, self.met = meta["pinned"], meta["met"]
        self._values = np.array(tensors["pinned"]) if "pinned" in tensors else None
