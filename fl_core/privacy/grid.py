"""Updates as integers of bounded norm, so that what one device can move is exact and not a matter of rounding.

An update is scaled so that the clip is ``RESOLUTION`` steps of the grid, and rounded to integers whose 2-norm is at
most ``weight`` times that. Sums of integers have no rounding errors and no order, and of an integer sum it can be
said how far one device moves it. The sum of clipped floats is only near the bound that its analysis assumes
(Casacuberta et al., "Widespread Underestimation of Sensitivity in Differentially Private Libraries", CCS 2022, arXiv
2207.10635).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fl_core.errors import InvariantError
from fl_core.vectors import BLOCK, FloatArray, Vector, read_into
from fl_core.vectors.arithmetic import norm_and_finite

IntArray: TypeAlias = NDArray[np.int64]

RESOLUTION = 1 << 16
"""Steps of the grid in one clip."""
MAX_WEIGHT = 1024
"""Up to here the squares of all steps together are whole numbers that a double holds."""


def to_grid(vector: Vector, clip: float, weight: float = 1.0) -> IntArray:
    """rint(weight · vector · RESOLUTION / clip), made shorter where its norm is above ``weight`` · RESOLUTION.

    The bound holds for the integers whatever the vector is. One with an element that is NaN or infinite becomes zeros:
    to refuse it would be a decision that depends on private data.

    Args:
        vector: float32 ``(num_elements,)``, encoded or not.
        clip: the norm from which updates are made shorter; > 0 and finite.
        weight: what the update counts in the sum; in [0, ``MAX_WEIGHT``].

    Returns:
        int64 ``(num_elements,)``.

    Raises:
        InvariantError: clip or weight is out of range.

    >>> to_grid(np.array([0.5, 0.0], np.float32), clip=1.0).tolist()
    [32768, 0]
    >>> to_grid(np.array([30.0, -40.0], np.float32), clip=1.0).tolist()
    [39320, -52427]
    >>> to_grid(np.array([1.0, np.nan], np.float32), clip=1.0).tolist()
    [0, 0]
    """
    if not (0 < clip < math.inf and 0 <= weight <= MAX_WEIGHT):
        raise InvariantError(f"An update was to be clipped to {clip!r} with weight {weight!r}.")
    size = vector.size
    steps = np.zeros(size, np.int64)
    norm = norm_and_finite(vector)
    length = weight * RESOLUTION
    if not 0 < norm < math.inf or length == 0:
        return steps
    bound = math.floor((Fraction(weight) * RESOLUTION) ** 2)
    # Rounding adds about num_elements / 12 to the square of the norm, give or take 7 deviations of length / √3 each.
    # With that much room whatever is clipped is rounded to the nearest step, and not towards zero.
    room = bound - size / 12 - 4 * length
    longest = math.sqrt(room) if room > bound / 2 else length
    if _round(steps, vector, min(length / clip, longest / norm)) > bound:
        _shorten(steps, bound)
    return steps


def from_grid(total: IntArray, clip: float, divisor: float) -> FloatArray:
    """The mean of updates that were summed on the grid: ``total`` · clip / (RESOLUTION · ``divisor``).

    Args:
        total: int64 ``(num_elements,)``, a sum of what ``to_grid`` made, with noise or without.
        clip: as there.
        divisor: > 0, how many updates of weight 1 the mean is over.

    Returns:
        float32 ``(num_elements,)``.

    Raises:
        InvariantError: clip or divisor is out of range.

    >>> from_grid(np.array([RESOLUTION, -RESOLUTION // 2]), clip=2.0, divisor=4).tolist()
    [0.5, -0.25]
    """
    if not (0 < clip < math.inf and 0 < divisor < math.inf):
        raise InvariantError(f"A sum of updates was to be read with clip {clip!r} and divisor {divisor!r}.")
    step = clip / (RESOLUTION * divisor)
    mean: FloatArray = np.empty(total.size, np.float32)
    with np.errstate(all="ignore"):
        for start in range(0, total.size, BLOCK):
            mean[start : start + BLOCK] = total[start : start + BLOCK] * step
    return mean


def squared_norm(steps: IntArray) -> int:
    """The square of the 2-norm, exactly, where that is below 2^53.

    >>> squared_norm(np.array([3, -4]))
    25
    """
    return sum(_square(steps[start : start + BLOCK]) for start in range(0, steps.size, BLOCK))


def _round(steps: IntArray, vector: Vector, factor: float) -> int:
    """``steps`` <- rint(vector · ``factor``); the square of its norm."""
    size = vector.size
    narrow = np.empty(min(BLOCK, size), np.float32)
    wide = np.empty(min(BLOCK, size), np.float64)
    total = 0
    for start in range(0, size, BLOCK):
        block = narrow[: size - start]
        read_into(block, vector, start)
        scaled = wide[: block.size]
        scaled[:] = block
        np.multiply(scaled, factor, out=scaled)
        np.rint(scaled, out=scaled)
        steps[start : start + BLOCK] = scaled
        np.multiply(scaled, scaled, out=scaled)
        total += int(np.add.reduce(scaled))
    return total


def _shorten(steps: IntArray, bound: int) -> None:
    """Towards zero, which makes no element longer, until the square of the norm is at most ``bound``."""
    while (square := squared_norm(steps)) > bound:
        # The second factor is for the last bit of the first, should that ever round an element up.
        factor = math.sqrt(bound / square) * (1 - 2.0**-48)
        for start in range(0, steps.size, BLOCK):
            block = steps[start : start + BLOCK]
            block[:] = np.trunc(block * factor)


def _square(steps: IntArray) -> int:
    return int(np.add.reduce(steps * steps))
