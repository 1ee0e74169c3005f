"""What a device's participations cost it together: exact for Gaussian noise, and without any amplification by sampling.

A release that adds N(0, σ²) to something that one device can move by at most Δ is the Gaussian mechanism with μ =
Δ/σ. Releases with μ₁, μ₂, ... are together the one with μ = √(μ₁² + μ₂² + ...) (Dong, Roth and Su, "Gaussian
Differential Privacy", JRSS-B 2022, arXiv 1905.02383, corollary 2). Its exact curve (Balle and Wang, "Improving the
Gaussian Mechanism for Differential Privacy", ICML 2018, arXiv 1805.06530, theorem 8; Dong, Roth and Su, corollary 1)
is

    δ(ε) = Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ).

Written that way it loses all its digits for small μ, and e^ε is no float for large ones. Both terms have the density
φ(t), with t = ε/μ - μ/2, as a factor, since e^ε φ(t + μ) = φ(t). With Mills' ratio M(t) = (1 - Φ(t)) / φ(t) the curve
is

    δ = φ(t) (M(t) - M(t + μ)),        ε = μ t + μ²/2,

in which t takes the place of ε. Bounds on what a device has spent are rounded to the side on which the promise still
holds: ε up, μ down, z up.

That devices choose themselves when they take part, from what was published before, changes nothing in this: a filter
that refuses what would pass a fixed μ is valid under full adaptivity (``budget.py``). That only some devices take
part in a merge is not counted as a gain, since nobody draws them at random and in secret.
"""

from __future__ import annotations

import math

from fl_core.errors import InvariantError

# Relative error of ``_delta`` that is allowed for; a test holds it against 60 digits.
_ERROR = 1e-10
# Relative room for the last steps: ε from t, and sums of many costs.
_ROOM = 1e-12
# Φ(-40) is below the smallest float.
_FAR = 40.0
_ROOT_OF_TWO_PI = math.sqrt(2 * math.pi)
_ROOT_OF_HALF_PI = math.sqrt(math.pi / 2)
_ROOT_OF_HALF = math.sqrt(0.5)
# Gauss and Legendre's points in (0, 1) and weights, ten of them; below μ = 1 they give 15 digits.
_POINTS = (
    (0.013046735741414128, 0.033335672154344034), (0.067468316655507732, 0.074725674575290292),
    (0.16029521585048778, 0.10954318125799103), (0.28330230293537639, 0.13463335965499817),
    (0.42556283050918442, 0.14776211235737643), (0.57443716949081558, 0.14776211235737643),
    (0.71669769706462361, 0.13463335965499817), (0.83970478414951222, 0.10954318125799103),
    (0.93253168334449227, 0.074725674575290292), (0.98695326425858587, 0.033335672154344034),
)  # fmt: skip


def delta_of(mu: float, epsilon: float) -> float:
    """δ at ``epsilon`` of the Gaussian mechanism with ``mu``, to ten digits.

    Raises:
        InvariantError: one of them is negative or NaN.

    >>> round(delta_of(1.0, 1.0), 8), round(delta_of(3.0, 1.0), 8)
    (0.12693674, 0.78760074)
    """
    _verify(mu >= 0 and epsilon >= 0, mu=mu, epsilon=epsilon)
    if mu == 0 or math.isinf(epsilon):
        return 0.0
    return 1.0 if math.isinf(mu) else _delta(epsilon / mu - mu / 2, mu)


def epsilon_of(mu: float, delta: float) -> float:
    """The smallest ε for which the Gaussian mechanism with ``mu`` is (ε, ``delta``)-private, rounded up.

    Args:
        mu: √(sum of the squares of sensitivity / deviation), >= 0; infinite for no noise at all.
        delta: in (0, 1).

    Raises:
        InvariantError: they are not.

    >>> import math
    >>> round(epsilon_of(math.sqrt(10) / 5, 1e-5), 6)
    2.594383
    """
    _verify(mu >= 0 and 0 < delta < 1, mu=mu, delta=delta)
    if mu == 0 or math.isinf(mu):
        return mu
    enough, low = delta * (1 - _ERROR), -mu / 2
    if _delta(low, mu) <= enough:
        return 0.0
    high = _FAR
    while low < (middle := (low + high) / 2) < high:
        if _delta(middle, mu) > enough:
            low = middle
        else:
            high = middle
    # t + μ/2 is a difference where t is negative: what was rounded there counts by μ/2.
    return mu * (high + mu / 2 + mu * _ROOM) * (1 + _ROOM)


def mu_of(epsilon: float, delta: float) -> float:
    """The largest μ whose ``epsilon_of`` is at most ``epsilon``, rounded down.

    Args:
        epsilon: > 0.
        delta: in (0, 1).

    Raises:
        InvariantError: they are not.

    >>> round(math.sqrt(32) / mu_of(8.0, 1e-6), 4)
    3.6936
    """
    _verify(0 < epsilon < math.inf and 0 < delta < 1, epsilon=epsilon, delta=delta)
    high = 1.0
    while epsilon_of(high, delta) <= epsilon:
        high *= 2
    low = 0.0
    while low < (middle := (low + high) / 2) < high and high - low > high * _ROOM:
        if epsilon_of(middle, delta) > epsilon:
            high = middle
        else:
            low = middle
    return low * (1 - _ROOM)


def noise_multiplier(epsilon: float, delta: float, participations: int, sensitivity: float = 1.0) -> float:
    """The noise's deviation, in clips, with which so many participations cost a device at most (ε, δ).

    Args:
        epsilon, delta: what a device may spend.
        participations: how many there are, each with weight 1; >= 1.
        sensitivity: by how many clips one device can move a release: 1 where its contribution is replaced by zeros
            (central noise), 2 where any two updates are to look alike (local noise).

    Raises:
        InvariantError: one of them is out of range.

    >>> round(noise_multiplier(10.0, 1e-5, 10), 4)
    1.5808
    """
    _verify(participations >= 1 and sensitivity > 0, participations=participations, sensitivity=sensitivity)
    # Rounded up by more than what adding the participations one by one can round.
    return sensitivity * math.sqrt(participations) / mu_of(epsilon, delta) * (1 + 1e-9)


def _delta(t: float, mu: float) -> float:
    """δ as a function of t = ε/μ - μ/2, for finite μ > 0 and t >= -μ/2."""
    if t >= _FAR:
        return 0.0
    density = math.exp(-t * t / 2) / _ROOT_OF_TWO_PI
    if mu < 1 and t > -1:
        # Two almost equal ratios; the integral of -M'(x) = 1 - x M(x) from t to t + μ has positive terms only.
        return density * mu * sum(weight * (1 - x * _mills(x)) for x, weight in _points(t, mu))
    if t > -1:
        return density * (_mills(t) - _mills(t + mu))
    return 0.5 * math.erfc(t * _ROOT_OF_HALF) - density * _mills(t + mu)


def _points(t: float, mu: float) -> list[tuple[float, float]]:
    return [(t + mu * point, weight) for point, weight in _POINTS]


def _mills(t: float) -> float:
    """(1 - Φ(t)) / φ(t), for t > -2; by its continued fraction (Laplace) where e^(t²/2) would cost digits."""
    if t < 5:
        return _ROOT_OF_HALF_PI * math.exp(t * t / 2) * math.erfc(t * _ROOT_OF_HALF)
    ratio = t
    for k in range(80, 0, -1):
        ratio = t + k / ratio
    return 1 / ratio


def _verify(holds: bool, **values: float) -> None:
    if not holds:
        raise InvariantError(f"No privacy can be reckoned with {', '.join(f'{k} = {v!r}' for k, v in values.items())}.")
