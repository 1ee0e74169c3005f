"""A model's state under a strategy that trusts no single worker: one vote for each, however much it sends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_core.aggregation.robust_rules import median
from fl_core.aggregation.statistics import measured_before, move_towards
from fl_core.codecs.model_payload import ModelState, write_state
from fl_core.errors import CampaignError
from fl_core.vectors import FloatArray
from fl_core.vectors.layout import Layout


@dataclass(slots=True)
class _Vote:
    """What one worker sent since the last merge: the sum of its means, its weights, and the last of each ``latest``."""

    means: FloatArray
    weights: list[float] = field(default_factory=list)
    latest: dict[int, FloatArray] = field(default_factory=dict)


class VotedStatistics:
    """The state of a model, moved as ``Statistics`` moves it, by votes.

    A worker's vote is the mean of the means that it sent, with the mean of its s(τ) as weight. v is the median of the
    votes, element by element, and each vote counts once in r. For the role ``latest`` a merge takes one vote whole, the
    most ``central`` one, since such a tensor may be no mixture of several.

    Args:
        layout, values, rate: as of ``Statistics``.

    >>> from fl_core.vectors.layout import TensorSpec
    >>> layout = Layout((TensorSpec("w", (1,)), TensorSpec("running_mean", (1,), role="mean")))
    >>> x = np.array([5.0, 0.0], np.float32)
    >>> statistics = VotedStatistics(layout, x, rate=0.5)
    >>> for worker, value in (("a", 4.0), ("b", 6.0), ("fast", 900.0), ("fast", 900.0), ("fast", 900.0)):
    ...     statistics.add(ModelState(np.array([value], np.float32), {}), worker=worker, weight=1.0, staleness=0)
    >>> statistics.merge()
    >>> x.tolist()
    [5.0, 6.0]
    """

    def __init__(self, layout: Layout, values: FloatArray, *, rate: float) -> None:
        self._layout = layout
        self._values = values
        self._rate = rate
        self._measured = measured_before(layout, values)
        self._votes: dict[str, _Vote] = {}

    def add(self, state: ModelState, *, worker: str, weight: float, staleness: int) -> None:
        """Take one update's state in, as ``Statistics`` does."""
        vote = self._votes.setdefault(worker, _Vote(np.zeros_like(state.means)))
        vote.means += state.means
        vote.weights.append(weight)
        vote.latest |= state.latest

    def merge(self) -> None:
        """Move the model's state towards the votes, and forget them."""
        mean = self._values[self._layout.means]
        votes = list(self._votes.values())
        if votes and mean.size:
            value = median(np.stack([vote.means / np.float32(len(vote.weights)) for vote in votes]))
            weights = [math.fsum(vote.weights) / len(vote.weights) for vote in votes]
            self._measured = move_towards(mean, value, self._measured, self._rate, weights)
        places = sorted({place for vote in votes for place in vote.latest})
        latest = {place: central([vote.latest[place] for vote in votes if place in vote.latest]) for place in places}
        write_state(self._layout, ModelState(mean, latest), self._values)
        self.clear()

    def clear(self) -> None:
        """Forget what was taken in."""
        self._votes = {}

    def export_state(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """All but the model's own state: arrays by name, and plain values."""
        tensors: dict[str, npt.NDArray[Any]] = {}
        for number, vote in enumerate(self._votes.values()):
            tensors[f"{number}.means"] = vote.means
            tensors |= {f"{number}.latest.{place}": values for place, values in vote.latest.items()}
        votes = [[worker, list(vote.weights), sorted(vote.latest)] for worker, vote in self._votes.items()]
        return tensors, {"measured": self._measured, "votes": votes}

    def restore_state(self, tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any]) -> None:
        """Go on where ``export_state`` stood, to the same bits.

        Raises:
            CampaignError: the arrays are of another model.
        """
        self.clear()
        self._measured = float(meta["measured"])
        shape = self._values[self._layout.means].shape
        # An earlier version kept no votes; what waited in it moves nothing, and the next updates do.
        for number, (worker, weights, places) in enumerate(meta.get("votes", ())):
            means = np.array(tensors[f"{number}.means"], np.float32)
            if means.shape != shape:
                raise CampaignError(
                    "The checkpoint's statistics are another model's; resume with the spec that wrote it."
                )
            latest = {int(place): np.array(tensors[f"{number}.latest.{place}"], np.float32) for place in places}
            self._votes[worker] = _Vote(means, [float(weight) for weight in weights], latest)


def central(tensors: list[FloatArray]) -> FloatArray:
    """Of tensors of one shape, the one that lies closest to the nearest half of the others; of equals, the first.

    A minority cannot make a tensor of its own that one: the nearest half of each holds an honest one. Distances are
    sums of absolute differences; elements that are equal differ by 0, infinite ones too.

    >>> central([np.array([np.inf, 0.0]), np.array([1.0, 2.0]), np.array([1.0, 3.0])]).tolist()
    [1.0, 2.0]
    """

    def distance(one: FloatArray, other: FloatArray) -> float:
        differs = one != other
        with np.errstate(invalid="ignore", over="ignore"):
            total = float(np.abs(one[differs].astype(np.float64) - other[differs]).sum())
        return total if total == total else math.inf

    nearest = len(tensors) // 2 + 1  # itself among them
    sums = [sum(sorted(distance(one, other) for other in tensors)[:nearest]) for one in tensors]
    return tensors[min(range(len(tensors)), key=sums.__getitem__)]
