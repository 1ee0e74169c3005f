"""Hostile devices that know what the others send, and agree on what they send instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from fl_core.vectors import FloatArray, Sends

Plot: TypeAlias = Literal["alie", "inner_product"]

# How many standard deviations "A Little Is Enough" goes from the mean. Its own formula gives 0 for 2 of 10 devices; 1.5
# is what the authors use for more of them.
ALIE_DEVIATIONS = 1.5
INNER_PRODUCT_FACTOR = 0.5


class Collusion:
    """What the honest devices sent last, as their enemies see it, and what these make of it.

    ``alie`` is "A Little Is Enough" (Baruch, Baruch and Goldberg, NeurIPS 2019, arXiv 1902.06156): each coordinate's
    mean less ``ALIE_DEVIATIONS`` standard deviations, which lies among the honest votes. ``inner_product`` is "Fall of
    Empires" (Xie, Koyejo and Gupta, UAI 2019, arXiv 1903.03936): minus ``INNER_PRODUCT_FACTOR`` times the mean. Both
    know all honest updates, which is more than an enemy of a campaign has.
    """

    def __init__(self, plot: Plot) -> None:
        self._plot = plot
        self._last: dict[str, FloatArray] = {}

    def listener(self, device: str) -> Callable[[FloatArray, Sends, FloatArray], FloatArray]:
        """What an honest device sends, with its enemies listening."""

        def listen(values: FloatArray, sends: Sends, base: FloatArray) -> FloatArray:
            self._last[device] = values.copy()
            return values

        return listen

    def forge(self, own: FloatArray, sends: Sends, base: FloatArray) -> FloatArray:
        """What a hostile device sends; its own honest delta before any other is known."""
        if not self._last:
            return own
        votes = np.stack(list(self._last.values()))
        mean = votes.mean(axis=0, dtype=np.float64)
        if self._plot == "inner_product":
            return (-INNER_PRODUCT_FACTOR * mean).astype(np.float32)
        return (mean - ALIE_DEVIATIONS * votes.std(axis=0, dtype=np.float64)).astype(np.float32)
