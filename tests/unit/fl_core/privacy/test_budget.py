"""Who may still take part: nobody beyond the budget, and everybody up to it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_core.errors import InvariantError
from fl_core.privacy.accountant import epsilon_of, noise_multiplier
from fl_core.privacy.budget import Budget, PrivacyFilter, cost


@settings(max_examples=30, deadline=None)
@given(
    epsilon=st.floats(0.1, 50),
    delta=st.floats(1e-9, 1e-2),
    z=st.floats(0.5, 100),
    weights=st.lists(st.floats(0.01, 1), max_size=60),
)
def test_nobody_passes_the_budget(epsilon: float, delta: float, z: float, weights: list[float]) -> None:
    """Whatever weights come in whatever order: what is said to be spent stays at or below epsilon."""
    spending = PrivacyFilter(Budget.of_epsilon(epsilon, delta))
    for weight in weights:
        if spending.may_spend("a", each := cost(z, weight)):
            spending.spend("a", each)
        else:
            with pytest.raises(InvariantError, match="'a'"):
                spending.spend("a", each)
    assert spending.epsilon("a") <= epsilon
    assert spending.epsilon("b") == 0.0


@pytest.mark.parametrize("participations", [1, 2, 3, 7, 32, 1000, 100_000])
def test_as_many_as_were_paid_for(participations: int) -> None:
    """Added one by one, and not one more; stale updates buy more."""
    z = noise_multiplier(4.0, 1e-6, participations)
    for budget in (Budget.of_epsilon(4.0, 1e-6), Budget.of_participations(participations, cost(z), 1e-6)):
        spent = 0.0
        for _ in range(participations):
            assert budget.allows(spent, cost(z))
            spent += cost(z)
        assert not budget.allows(spent, cost(z))
        assert budget.participations(cost(z)) == participations
        assert budget.participations(cost(z, 0.5)) >= 4 * participations
        assert budget.epsilon <= 4.0 * (1 + 1e-8)


def test_each_device_has_its_own() -> None:
    """And what another life spent counts as well, even beyond the budget."""
    spending = PrivacyFilter(Budget.of_participations(2, cost(2.0), 1e-5), {"old": 0.25})
    spending.spend("old", cost(2.0))
    assert spending.exhausted(["old", "new"], cost(2.0)) == ["old"]
    spending.charge("old", 1.0)
    assert spending.epsilon("old") == spending.largest_epsilon == epsilon_of(math.sqrt(1.5), 1e-5)
    assert dict(spending.spent) == {"old": 1.5}


def test_costs() -> None:
    """Without weight nothing, without noise everything; any other update in the place of this, four times as much."""
    assert (cost(2.0, 0.0), cost(0.0), cost(2.0, 0.5), cost(2.0, sensitivity=2.0)) == (0.0, math.inf, 0.0625, 1.0)
    assert not Budget.of_epsilon(50.0, 1e-6).allows(0.0, cost(0.0))
    with pytest.raises(InvariantError, match="weight"):
        cost(1.0, math.nan)
