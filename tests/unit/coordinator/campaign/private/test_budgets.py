"""Who may contribute now: budgets, rests, and releases that are counted once."""

from __future__ import annotations

import pytest

from coordinator.campaign.private.budgets import Budgets
from fl_core.errors import Reason, RejectedUpdate
from fl_core.privacy.budget import Budget
from fl_core.privacy.spend import Spend


def budgets(min_separation: int = 1) -> Budgets:
    """Two participations for each."""
    return Budgets(Budget.of_participations(2, 1.0, 1e-6), min_separation)


def why(found: Budgets, worker: str, version: int, cost: float = 1.0) -> Reason | None:
    """Why a device may not contribute."""
    try:
        found.verify(worker, version, cost)
    except RejectedUpdate as error:
        return error.reason
    return None


@pytest.mark.parametrize("separation", [1, 2, 5])
def test_a_rest_lasts_until_the_versions_are_that_far_apart(separation: int) -> None:
    """Let into the buffer at version 3, it is in version 4; its next one is in version 4 + separation or later."""
    found = budgets(separation)
    found.rest("a", 3)
    said = [why(found, "a", version) for version in range(3, 12)]
    assert said == [Reason.RESTING] * separation + [None] * (9 - separation)
    found.wake(["a", "b"])
    assert why(found, "a", 3) is None


def test_a_spent_budget_is_told_before_a_rest() -> None:
    """It lasts longer, and depends on what the contribution costs."""
    found = budgets()
    for version in (1, 2):
        found.spend(Spend(version=version, release=str(version), costs={"a": 0.75}))
    found.rest("a", 3)
    assert why(found, "a", 3) is Reason.BUDGET_SPENT
    assert why(found, "a", 3, 0.5) is Reason.RESTING
    assert why(found, "a", 4, 0.5) is None
    assert found.spent(1.0) == ["a"]
    assert found.spent(0.5) == []


def test_a_release_counts_once_from_wherever_it_is_known() -> None:
    """Spent, then charged; or charged, then reached by the log again."""
    found = budgets()
    one, two = (Spend(version=1, release=name, costs={"a": 1.0}) for name in ("x", "y"))
    found.spend(one)
    assert not found.charge(one)
    assert found.charge(two)
    found.spend(two)
    assert dict(found.filter.spent) == {"a": 2.0}


def test_a_checkpoint_holds_all_of_it() -> None:
    """Budgets, rests and names."""
    before = budgets()
    before.spend(Spend(version=1, release="x", costs={"a": 1.0}))
    before.rest("b", 7)
    after = budgets()
    after.restore(before.export())
    assert after.export() == before.export()
    assert why(after, "b", 7) is Reason.RESTING
