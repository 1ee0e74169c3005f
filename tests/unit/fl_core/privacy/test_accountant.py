"""Epsilon, delta and mu of the Gaussian mechanism: published and computed vectors, and 60 digits."""

from __future__ import annotations

import math
import random

import mpmath
import pytest

from fl_core.errors import InvariantError
from fl_core.privacy.accountant import delta_of, epsilon_of, mu_of, noise_multiplier

MUS = (1e-9, 1e-5, 1e-3, 0.1, 0.6, 0.999, 1.0, 1.001, 5.0, 50.0, 1e3, 1e6)
DELTAS = (1e-12, 1e-9, 1e-6, 1e-3, 0.3)


def exact(mu: float, epsilon: mpmath.mpf | float) -> mpmath.mpf:
    """The curve as it is published, with so many digits that cancellation costs none that count."""
    with mpmath.workdps(80 + 2 * round(abs(math.log10(mu)))):
        mu, epsilon = mpmath.mpf(mu), mpmath.mpf(epsilon)
        first, second = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
        return mpmath.ncdf(first) - mpmath.exp(epsilon) * mpmath.ncdf(second)


@pytest.mark.parametrize(
    ("mu", "epsilon", "delta"),
    # The first three are in the tests of google/differential-privacy, the last one in those of OpenDP.
    [(1, 1, 0.12693674), (1, 2, 0.02092364), (3, 1, 0.78760074), (1, 0, 0.38292492)],
)
def test_published_deltas(mu: float, epsilon: float, delta: float) -> None:
    """Of one release, to the digits that were published."""
    assert delta_of(mu, epsilon) == pytest.approx(delta, abs=5.1e-9)


@pytest.mark.parametrize(
    ("sigma", "releases", "delta", "epsilon"),
    [(5, 10, 1e-5, 2.594383), (10, 100, 1e-6, 4.886554), (20, 32, 1e-6, 1.211967), (1, 1, 1e-5, 4.377178)],
)
def test_composition_as_another_library_has_it(sigma: float, releases: int, delta: float, epsilon: float) -> None:
    """dp-accounting 0.6.0 gives these by privacy loss distributions."""
    assert epsilon_of(math.sqrt(releases) / sigma, delta) == pytest.approx(epsilon, abs=5.1e-7)


@pytest.mark.parametrize(("epsilon", "delta", "participations", "z"), [(8, 1e-6, 32, 3.6936), (10, 1e-5, 10, 1.5808)])
def test_noise_for_a_budget(epsilon: float, delta: float, participations: int, z: float) -> None:
    """The inverse, which gives exactly the participations that were paid for, also when they are added one by one."""
    found = noise_multiplier(epsilon, delta, participations)
    assert found == pytest.approx(z, abs=5.1e-5)
    assert epsilon_of(math.sqrt(sum([1 / found**2] * participations)), delta) <= epsilon
    assert epsilon_of(math.sqrt((participations + 1) / found**2), delta) > epsilon
    assert noise_multiplier(epsilon, delta, participations, sensitivity=2) == pytest.approx(2 * z, abs=1.1e-4)


def test_deltas_have_ten_digits() -> None:
    """From tiny to huge μ, and down to the smallest δ that a float can be."""
    chance = random.Random(1)
    for _ in range(500):
        mu = 10 ** chance.uniform(-9, 3.5)
        t = chance.uniform(-min(mu / 2, 30), 36)
        epsilon = mu * (t + mu / 2)
        # What is compared is the curve at this very float, and where μ is large its last bit is worth this much.
        rounded = 2e-16 * (mu + 1) * (abs(t) + 1)
        assert delta_of(mu, epsilon) == pytest.approx(float(exact(mu, epsilon)), rel=1e-10 + rounded)


@pytest.mark.parametrize("mu", MUS)
@pytest.mark.parametrize("delta", DELTAS)
def test_epsilon_is_rounded_up_and_not_far(mu: float, delta: float) -> None:
    """The mechanism is (ε, δ)-private for the ε that is said, and not for a slightly smaller one."""
    epsilon = epsilon_of(mu, delta)
    assert exact(mu, epsilon) <= delta
    if epsilon > 0:
        assert exact(mu, epsilon * (1 - 1e-8)) > delta


@pytest.mark.parametrize("epsilon", [1e-4, 0.1, 1.0, 8.0, 100.0, 1e5])
@pytest.mark.parametrize("delta", DELTAS)
def test_mu_is_rounded_down_and_not_far(epsilon: float, delta: float) -> None:
    """What fits into the budget stays below it in ε; a millionth more does not."""
    mu = mu_of(epsilon, delta)
    assert epsilon_of(mu, delta) <= epsilon
    assert epsilon_of(mu * (1 + 1e-6), delta) > epsilon


def test_more_costs_more() -> None:
    """ε rises with μ and falls with δ; nothing is lost between two neighbouring floats' worth of noise."""
    rising = [epsilon_of(mu / 64, 1e-6) for mu in range(1, 640)]
    assert rising == sorted(rising)
    falling = [epsilon_of(1.0, 10.0 ** (-k / 8)) for k in range(4, 96)]
    assert falling == sorted(falling)


def test_the_ends() -> None:
    """No release costs nothing, one without noise costs everything."""
    assert (delta_of(0.0, 0.0), epsilon_of(0.0, 1e-6)) == (0.0, 0.0)
    assert (delta_of(math.inf, 5.0), epsilon_of(math.inf, 1e-6)) == (1.0, math.inf)
    assert delta_of(1e-300, 1.0) == 0.0
    assert epsilon_of(1e-12, 1e-12) <= 1e-12


@pytest.mark.parametrize("arguments", [(-1.0, 1e-6), (math.nan, 1e-6), (1.0, 0.0), (1.0, 1.0), (1.0, math.nan)])
def test_nonsense_is_refused(arguments: tuple[float, float]) -> None:
    """In one sentence, and never reckoned with."""
    with pytest.raises(InvariantError, match="privacy"):
        epsilon_of(*arguments)
