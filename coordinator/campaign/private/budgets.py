"""Who may contribute now: each device's budget, its rest between two contributions, and what other lives have spent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fl_core.errors import Reason, RejectedUpdate
from fl_core.privacy.budget import Budget, PrivacyFilter
from fl_core.privacy.spend import Spend


class Budgets:
    """The filter, and what it has let through.

    A device that waits in the buffer has not spent anything yet: if the buffer is dropped, nothing was released.

    Args:
        budget: of each device.
        min_separation: so many versions lie between two contributions of a device, at least.

    Attributes:
        filter: what each device has spent.
        rests_until: the version from which a device may contribute again, by device.
        releases: the names of all merges that are counted, of this life and of others.
    """

    def __init__(self, budget: Budget, min_separation: int) -> None:
        self._min_separation = min_separation
        self.filter = PrivacyFilter(budget)
        self.rests_until: dict[str, int] = {}
        self.releases: set[str] = set()

    def verify(self, worker: str, version: int, cost: float) -> None:
        """Refuse an update of a device that may not contribute now.

        Args:
            version: the campaign's.
            cost: what the contribution would cost the device.

        Raises:
            RejectedUpdate: ``budget_spent``, or ``resting``.
        """
        if not self.filter.may_spend(worker, cost):
            raise RejectedUpdate(
                Reason.BUDGET_SPENT,
                f"{worker} has spent epsilon = {self.filter.epsilon(worker):.4g}, and one more update would pass "
                f"its budget of {self.filter.budget.epsilon:.4g}",
            )
        if version < (until := self.rests_until.get(worker, 0)):
            raise RejectedUpdate(Reason.RESTING, f"{worker} may contribute again from version {until} on")

    def rest(self, worker: str, version: int) -> None:
        """An update is let into the buffer of the version after ``version``."""
        self.rests_until[worker] = version + self._min_separation

    def wake(self, workers: Iterable[str]) -> None:
        """The buffer was dropped: these devices have contributed nothing."""
        for worker in workers:
            self.rests_until.pop(worker, None)

    def spend(self, spend: Spend) -> None:
        """A merge counts, unless it was counted already (``charge``)."""
        if spend.release in self.releases:
            return
        for worker, cost in spend.costs.items():
            self.filter.spend(worker, cost)
        self.releases.add(spend.release)

    def charge(self, spend: Spend) -> bool:
        """A release of another life counts too; False for one that is counted already."""
        if spend.release in self.releases:
            return False
        for worker, cost in spend.costs.items():
            self.filter.charge(worker, cost)
        self.releases.add(spend.release)
        return True

    def spent(self, fresh: float) -> list[str]:
        """Devices that have not enough left for a fresh update; a stale one may cost less, but nobody plans to be late.

        Args:
            fresh: what a fresh update costs.
        """
        return self.filter.exhausted(self.filter.spent, fresh)

    def export(self) -> dict[str, Any]:
        """All state, as plain values."""
        return {
            "spent": dict(self.filter.spent),
            "rests_until": dict(self.rests_until),
            "releases": sorted(self.releases),
        }

    def restore(self, meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``."""
        self.filter = PrivacyFilter(self.filter.budget, meta["spent"])
        self.rests_until = dict(meta["rests_until"])
        self.releases = set(meta["releases"])
