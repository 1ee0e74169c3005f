"""A clip that follows a quantile of the updates' norms, learned with privacy of its own.

Each update says with one bit whether its norm was at most the clip, and the noisy share of such updates moves the
clip towards the wanted quantile (Andrew, Thakkar, McMahan and Ramaswamy, "Differentially Private Learning with
Adaptive Clipping", NeurIPS 2021, arXiv 1905.03871, sections 2 and 3.1):

    b̃ = ½ + (Σ (bᵢ - ½) + N(0, σ_b²)) / K,        C <- C · exp(-η (b̃ - γ)),        σ_b = K / 20, η = 0.2, γ = ½.

A bit less ½ is ½ or -½, so a device that is replaced by zeros moves the sum by ½, whatever its update's weight, and
releasing it costs (½ / σ_b)² of μ². The update's own noise is raised such that both together cost no more than
without:

    1/z² = 1/z_Δ² + 1/(2 σ_b)²        (theorem 1 there).

The sum of bits is reckoned on the grid of the updates, so that it is exact as well.
"""

from __future__ import annotations

import math

from fl_core.errors import InvariantError
from fl_core.privacy.budget import cost
from fl_core.privacy.grid import RESOLUTION

QUANTILE = 0.5
RATE = 0.2
_SHARE = 20
# However far out the noise is, one merge moves the clip by at most e^±this.
_MOST = 0.7
_SMALLEST, _LARGEST = 1e-30, 1e30


def bit(norm: float, clip: float) -> int:
    """An update's part of the sum: half of ``RESOLUTION``, negative where its norm is above the clip, or NaN.

    >>> bit(0.5, clip=1.0), bit(2.0, clip=1.0)
    (32768, -32768)
    """
    return RESOLUTION // 2 if norm <= clip else -(RESOLUTION // 2)


def bits_deviation(buffer_size: int) -> float:
    """σ_b, in updates: a twentieth of the buffer.

    >>> bits_deviation(40)
    2.0
    """
    return buffer_size / _SHARE


def bits_cost(buffer_size: int) -> float:
    """What releasing its bit costs a device: 1 / (2 σ_b)².

    >>> bits_cost(40)
    0.0625
    """
    return cost(bits_deviation(buffer_size), 0.5)


def update_multiplier(noise_multiplier: float, buffer_size: int) -> float:
    """z_Δ: the noise on the sum of updates, in clips, beside which the bits cost nothing extra.

    Args:
        noise_multiplier: z, what a participation of weight 1 is to cost as a whole; above 0.
        buffer_size: K.

    Raises:
        InvariantError: the bits alone cost as much; K is too small for this z.

    >>> round(update_multiplier(1.0, 40), 4)
    1.0328
    """
    left = cost(noise_multiplier) - bits_cost(buffer_size)
    if not 0 < left < math.inf:
        raise InvariantError(
            f"Bits of a buffer of {buffer_size} cost as much as noise of {noise_multiplier!r} clips allows in all."
        )
    return 1 / math.sqrt(left)


def next_clip(clip: float, noisy_bits: int, buffer_size: int) -> float:
    """The clip after a merge.

    Args:
        clip: C, with which the merged updates were clipped.
        noisy_bits: Σ ``bit``, plus noise of deviation ``bits_deviation`` · ``RESOLUTION``, on the grid.
        buffer_size: K, also of a merge of fewer.

    >>> round(next_clip(1.0, 10 * RESOLUTION // 2, buffer_size=10), 4), next_clip(1.0, 0, buffer_size=10)
    (0.9048, 1.0)
    """
    share = 0.5 + noisy_bits / (RESOLUTION * buffer_size)
    moved = max(-_MOST, min(_MOST, -RATE * (share - QUANTILE)))
    return max(_SMALLEST, min(_LARGEST, clip * _exp(moved)))


def _exp(x: float) -> float:
    """e^x for |x| <= ``_MOST``, by + * and / alone: clips are replayed, and C libraries round exp differently."""
    total = 1.0
    for k in range(17, 0, -1):
        total = 1.0 + total * x / k
    return total
