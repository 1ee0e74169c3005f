"""A campaign's history as series of numbers, for pictures and pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coordinator.storage.history import read_history, scores_of
from fl_core.metrics import names as metric_names
from fl_core.spec import StopMetric

if TYPE_CHECKING:
    pass

NUM_MEDIANS = 200


NUM_SPEEDS = 300


Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Series:
    """A history by column; times in seconds since the campaign was opened.

    Attributes:
        evaluations: (seconds, loss and metrics by name) of each; a number that could not be had is None.
        update_seconds, update_staleness: of each merged update.
    """

    evaluations: list[tuple[float, dict[str, float | None]]] = field(default_factory=list)
    update_seconds: list[float] = field(default_factory=list)
    update_staleness: list[int] = field(default_factory=list)

    def curve(self, name: str) -> list[tuple[float, float | None]]:
        """(seconds, score) of each evaluation; None where this one is absent."""
        return [(seconds, scores.get(name)) for seconds, scores in self.evaluations]

    def points(self, name: str) -> list[tuple[float, float]]:
        """(seconds, score) of the evaluations that have this one."""
        return [(seconds, value) for seconds, value in self.curve(name) if value is not None]

    @property
    def main_score(self) -> str | None:
        """The first metric that the spec names of those that were ever had, or the loss; None where nothing was."""
        names = dict.fromkeys(name for _, scores in self.evaluations for name in scores if name != "loss")
        return next((name for name in [*names, "loss"] if self.points(name)), None)


def lower_is_better(summary: Mapping[str, Any]) -> frozenset[str]:
    """The scores of a run of which lower is better."""
    own = {name for name, row in summary.get("metrics", {}).items() if not row["higher_is_better"]}
    return metric_names.LOWER_IS_BETTER | own


def read_series(history: Path) -> Series:
    """Read what the pictures need of ``history.jsonl``."""
    series = Series()
    for line in read_history(history):
        if line["kind"] == "evaluation":
            series.evaluations.append((line["seconds"], scores_of(line)))
        elif line["kind"] == "merge":
            series.update_seconds += [line["seconds"]] * len(line["staleness"])
            series.update_staleness += line["staleness"]
    return series


def first_met(points: Sequence[tuple[float, float | None]], target: StopMetric) -> float | None:
    """When a curve first met a target; None if it never did.

    >>> first_met([(1.0, 0.5), (2.0, 0.9), (3.0, 0.8)], StopMetric(name="f1", at_least=0.9))
    2.0
    """
    return next((seconds for seconds, value in points if target.is_met_by(value)), None)


def pieces(rows: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """A curve as unbroken stretches: where a number is absent, there is a gap.

    >>> pieces([(0, None), (1, 5.0), (2, 6.0), (3, None), (4, 7.0)])
    [[(1, 5.0), (2, 6.0)], [(4, 7.0)]]
    """
    found: list[list[tuple[float, float]]] = [[]]
    for x, value in rows:
        if value is not None:
            found[-1].append((x, value))
        elif found[-1]:
            found.append([])
    return [piece for piece in found if piece]


def running_median(values: Sequence[float], window: int, num_points: int = NUM_MEDIANS) -> list[tuple[int, float]]:
    """The median of a value and ``window // 2`` neighbours on either side, at up to ``num_points`` places.

    Returns:
        (index of the place, median) each.

    >>> running_median([0, 9, 1, 1, 1], window=3)
    [(0, 4.5), (1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)]
    """
    array = np.asarray(values, np.float64)
    places = np.unique(np.linspace(0, len(array) - 1, min(num_points, len(array))).astype(int))
    half = window // 2
    return [(int(i), float(np.median(array[max(0, i - half) : i + half + 1]))) for i in places]


def speed(seconds: Sequence[float], end: float, num_points: int = NUM_SPEEDS) -> tuple[Floats, Floats]:
    """Updates merged per second: the mean over a fifteenth of the whole time around each moment.

    Between two merges the number of merged updates is taken to rise evenly. Counting in equal parts of the time instead
    would show how merges fall into the parts: a cohort every two seconds would look like a comb.

    Args:
        seconds: of each merged update, not falling.
        end: of the campaign.
        num_points: how many moments.

    Returns:
        The moments, float64 of shape ``(num_points,)``, and the speed at each.

    >>> speed([1.0, 1.0, 2.0, 2.0], end=2.0, num_points=3)[1].tolist()
    [2.0, 2.0, 2.0]
    """
    moments = np.linspace(0.0, max(end, 1e-3), num_points)
    merges, counts = np.unique(np.asarray(seconds, np.float64), return_counts=True)
    times, merged = np.concatenate([[0.0], merges]), np.concatenate([[0.0], np.cumsum(counts)])
    first = np.maximum(moments - moments[-1] / 30, 0.0)
    last = np.minimum(moments + moments[-1] / 30, moments[-1])
    return moments, (np.interp(last, times, merged) - np.interp(first, times, merged)) / (last - first)
