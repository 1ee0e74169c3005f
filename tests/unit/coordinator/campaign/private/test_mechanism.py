"""A sum of integers becomes a step, and a spec the noise and the budget that go together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coordinator.campaign.private.mechanism import noise_and_budget, noisy_mean
from fl_core.errors import InvariantError
from fl_core.spec import CampaignSpec, parse_spec
from tests.unit.coordinator.campaign.private import reference

KEY = bytes(range(32))


def spec(**privacy: object) -> CampaignSpec:
    """With these settings."""
    return parse_spec({"model": {"factory": "a:b"}, "privacy": {"mode": "central", **privacy}})


def test_noise_is_added_to_integers_and_then_divided() -> None:
    """With a multiplier of 0 the mean is exact; with noise it is that of another sampler."""
    total = np.arange(-500, 500, dtype=np.int64) * 1000
    exact = noisy_mean(total.copy(), KEY, clip=2.0, multiplier=0.0, divisor=10)
    np.testing.assert_array_equal(exact.values, (total * 2.0 / (65536 * 10)).astype(np.float32))
    noise = np.array(reference.gaussian(KEY, 1000, 0.5 * 65536))
    noisy = noisy_mean(total.copy(), KEY, clip=2.0, multiplier=0.5, divisor=10)
    np.testing.assert_array_equal(noisy.values, ((total + noise) * (2.0 / (65536 * 10))).astype(np.float32))


def test_epsilon_gives_the_noise_and_is_the_budget() -> None:
    """For the published (8, 1e-6, 32): z = 3.6936."""
    multiplier, budget = noise_and_budget(spec(epsilon=8.0))
    assert multiplier == pytest.approx(3.6936, abs=5e-5)
    assert budget.epsilon == pytest.approx(8.0, abs=1e-6)
    assert budget.participations(1 / multiplier**2) == 32


def test_the_noise_gives_the_budget() -> None:
    """Of so many fresh participations, also where that is no use to anybody."""
    multiplier, budget = noise_and_budget(spec(noise_multiplier=5.0, max_participations=10, delta=1e-5))
    assert (multiplier, round(budget.epsilon, 6)) == (5.0, 2.594383)
    assert math.isclose(budget.mu_squared, 10 / 25, rel_tol=1e-6)


def test_without_privacy_there_is_neither() -> None:
    """It is not asked for."""
    with pytest.raises(InvariantError, match="the spec gives none"):
        noise_and_budget(parse_spec({"model": {"factory": "a:b"}}))
