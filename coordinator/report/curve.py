"""A curve as numbers: where it has gaps, its running median, its rate, and when it first met a target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fl_core.spec import StopMetric

NUM_MEDIANS = 200
NUM_SPEEDS = 300

Floats = npt.NDArray[np.float64]
Curve = Sequence[tuple[float, float | None]]
"""(x, y) in order of x; a y of None is absent."""


def first_met(points: Curve, target: StopMetric) -> float | None:
    """When a curve first met a target; None if it never did.

    >>> first_met([(1.0, 0.5), (2.0, 0.9), (3.0, 0.8)], StopMetric(name="f1", at_least=0.9))
    2.0
    """
    return next((seconds for seconds, value in points if target.is_met_by(value)), None)


def pieces(rows: Curve) -> list[list[tuple[float, float]]]:
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
