"""An attack on the mechanism alone: was this device among those that were merged?

The attacker knows everything but that: all other updates, weights and clips, and the update that the device would have
sent, which is as long as it may be. Of each release it knows the noisy sum, so the sum along the update's direction is
all that tells. From how often it is right follows a lower bound on μ, and on ε, that holds with near certainty (Clopper
and Pearson 1934; Nasr et al., "Tight Auditing of Differentially Private Machine Learning", USENIX Security 2023, arXiv
2302.07956). It must lie below what the accountant claims, and not far below, or the attack would prove nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from fl_core.privacy.accountant import epsilon_of
from fl_core.privacy.adaptive_clip import bit, bits_deviation, update_multiplier
from fl_core.privacy.budget import cost
from fl_core.privacy.grid import RESOLUTION, to_grid
from fl_core.privacy.noise import rounded_gaussian
from fl_core.privacy.terms import Terms

RUNS = 60_000
CONFIDENCE = 1e-4
DELTA = 1e-5
CLIP = 0.7
NUM_PARAMETERS = 12

Steps: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[np.float64]


def bound(hits: int, runs: int, upper: bool) -> float:
    """One end of Clopper and Pearson's interval, by bisection of the binomial tail."""
    k = np.arange(hits if not upper else 0, (runs if not upper else hits) + 1)
    logs = np.array([math.lgamma(runs + 1) - math.lgamma(i + 1) - math.lgamma(runs - i + 1) for i in map(float, k)])
    low, high = 0.0, 1.0
    for _ in range(40):
        p = (low + high) / 2
        tail = float(np.exp(logs + k * math.log(p) + (runs - k) * math.log1p(-p)).sum()) if 0 < p < 1 else 0.0
        if upper == (tail > CONFIDENCE):
            low = p
        else:
            high = p
    return high if upper else low


def learned(without: Scores, with_it: Scores) -> tuple[float, float]:
    """Lower bounds on μ and on ε at ``DELTA`` from what a threshold tells apart.

    The thresholds are chosen on one half of the runs and judged on the other.
    """
    half, normal = RUNS // 2, NormalDist()
    thresholds = np.quantile(without[:half], [0.5, 0.9, 0.99, 0.997, 0.999])
    tried = [_bounds(without[:half], with_it[:half], float(at), normal) for at in thresholds]
    best = [max(range(len(tried)), key=lambda at: tried[at][which]) for which in (0, 1)]
    judged = [_bounds(without[half:], with_it[half:], float(thresholds[at]), normal) for at in best]
    return judged[0][0], judged[1][1]


def _bounds(without: Scores, with_it: Scores, threshold: float, normal: NormalDist) -> tuple[float, float]:
    wrong = bound(int(np.sum(without > threshold)), without.size, upper=True)
    right = bound(int(np.sum(with_it > threshold)), with_it.size, upper=False)
    if not 0 < right < 1 or not 0 < wrong < 1:
        return 0.0, 0.0
    mu = normal.inv_cdf(right) - normal.inv_cdf(wrong)
    return mu, math.log(max(right - DELTA, 1e-300) / wrong)


def drawn(world: str, release: int, size: int, deviation: float) -> Steps:
    """Noise as it should be: a key of its own for each release of each world."""
    return rounded_gaussian(hashlib.sha256(f"{world}{release}".encode()).digest(), size, deviation)


def update(length: float = 1.0) -> NDArray[np.float32]:
    """What the device would send."""
    values = np.random.default_rng(7).standard_normal(NUM_PARAMETERS)
    return (values * length * CLIP / np.linalg.norm(values)).astype(np.float32)


def scores(
    world: str,
    z: float,
    weights: list[float],
    *,
    present: bool = True,
    length: float = 1.0,
    clip: Callable[[NDArray[np.float32], float, float], Steps] = to_grid,
    noise: Callable[[str, int, int, float], Steps] = drawn,
) -> Scores:
    """What the attacker sees along the device's direction, over all releases, once per run."""
    total = np.zeros(RUNS)
    direction = update().astype(np.float64) / np.linalg.norm(update().astype(np.float64))
    for release, weight in enumerate(weights):
        others = to_grid(update()[::-1].copy(), CLIP, weight)
        moved = clip(update(length), CLIP, weight) if present else 0
        made = noise(world, release, RUNS * NUM_PARAMETERS, z * RESOLUTION).reshape(RUNS, NUM_PARAMETERS)
        total += weight * ((others + moved + made - others) @ direction)
    return total


def claimed(z: float, weights: list[float]) -> float:
    """μ, as the accountant has it."""
    return math.sqrt(sum(cost(z, weight) for weight in weights))


def test_less_is_learned_than_is_claimed_and_not_much_less() -> None:
    """Three releases with staleness weights, by one device; update and noise are the product's own."""
    z, weights = 1.5, [1.0, 0.7, 0.5]
    mu = claimed(z, weights)
    found, epsilon = learned(scores("out", z, weights, present=False), scores("in", z, weights))
    assert 0.9 * mu < found <= mu
    assert 0.3 * epsilon_of(mu, DELTA) < epsilon <= epsilon_of(mu, DELTA)


def test_any_two_updates_with_local_noise() -> None:
    """The two that differ most, twice a clip, each with noise of its own."""
    terms = Terms("local", CLIP, 3.0, DELTA, 3)
    weights = [1.0] * terms.max_participations
    mu = math.sqrt(terms.budget.mu_squared)
    one = scores("one", terms.noise_multiplier, weights)
    other = scores("other", terms.noise_multiplier, weights, clip=lambda *given: -to_grid(*given))
    found, epsilon = learned(other, one)
    assert 0.9 * mu < found <= mu
    assert 0.3 * terms.budget.epsilon < epsilon <= terms.budget.epsilon


def test_the_adaptive_clip_costs_what_it_says() -> None:
    """Update and bit together, each with its own noise, tell no more than one update with all of the noise would."""
    z, size = 1.5, 20
    raised = update_multiplier(z, size)
    deviation = bits_deviation(size) * RESOLUTION

    def seen(world: str, present: bool) -> Scores:
        along = scores(world, raised, [1.0], present=present) * RESOLUTION / (raised * RESOLUTION) ** 2
        bits = drawn(world, 99, RUNS, deviation) + (bit(CLIP, CLIP) if present else 0)
        return along + bits * (bit(CLIP, CLIP) / deviation**2)

    found, _ = learned(seen("out", present=False), seen("in", present=True))
    assert 0.9 / z < found <= 1 / z
    assert raised > z


FAULTS: dict[str, dict[str, Any]] = {
    "a part of the noise": {"noise": lambda world, release, size, z: drawn(world, release, size, 0.8 * z)},
    "noise that is not scaled to the grid": {"noise": lambda world, release, size, z: drawn(world, release, size, 1.5)},
    "a clip that is ignored": {
        "length": 1.5,
        "clip": lambda values, clip, weight: np.rint(values * (weight * RESOLUTION / clip)).astype(np.int64),
    },
    "weights that are left out": {"clip": lambda values, clip, weight: to_grid(values, clip)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_broken_is_found(fault: str) -> None:
    """Each of these claims what the good mechanism does, and the attack learns more than that."""
    z, weights = 1.5, [1.0, 0.7, 0.5]
    faulty = FAULTS[fault]
    noise = {"noise": faulty["noise"]} if "noise" in faulty else {}
    without = scores("out", z, weights, present=False, **noise)
    found, _ = learned(without, scores("in", z, weights, **faulty))
    assert found > claimed(z, weights)


def test_noise_that_is_used_twice_is_found() -> None:
    """Two releases with the same noise, and the device is in one of them: their difference is the device's update."""
    z = 1.5

    def difference(world: str, present: bool, key: Callable[[int], int]) -> Scores:
        def again(world: str, release: int, size: int, deviation: float) -> Steps:
            return drawn(world, key(release), size, deviation)

        first = scores(world, z, [1.0], present=present, noise=again)
        second = scores(world, z, [1.0], present=False, noise=lambda w, _, size, d: again(w, 1, size, d))
        return first - second

    found, _ = learned(
        difference("out", False, lambda release: release), difference("in", True, lambda release: release)
    )
    assert found <= claimed(z, [1.0])
    found, epsilon = learned(difference("out", False, lambda _: 0), difference("in", True, lambda _: 0))
    assert found > 3 * claimed(z, [1.0])
    assert epsilon > epsilon_of(claimed(z, [1.0]), DELTA)
