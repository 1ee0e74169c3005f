"""Local noise of simulated devices: the same at every run, and each device's budget as a worker keeps it."""

from __future__ import annotations

import hashlib

from fl_core.privacy.budget import PrivacyFilter
from fl_core.privacy.noise import KEY_BYTES
from fl_core.privacy.terms import Terms
from fl_core.wire.messages import TrainTask


class SimulatedPrivacy:
    """What simulated devices have given away. Keys of their noise hang on the campaign's seed, since nothing leaves."""

    def __init__(self) -> None:
        self._filter: PrivacyFilter | None = None
        self._spent: set[str] = set()

    def verify(self, device: str, task: TrainTask) -> bool:
        """Whether the device may take the task."""
        if (terms := Terms.read(task.privacy)) is None or not terms.is_local:
            return True
        if not self._filter_of(terms).may_spend(device, terms.cost):
            self._spent.add(device)
        return device not in self._spent

    def is_spent(self, device: str) -> bool:
        """Whether it was seen to have nothing left."""
        return device in self._spent

    def sentence(self, device: str) -> str:
        """Why it takes no more tasks."""
        spent = 0.0 if self._filter is None else self._filter.epsilon(device)
        return f"the device has given away epsilon = {spent:.4g}, and one more update would pass its budget."

    def spend(self, device: str, task: TrainTask, terms: Terms) -> bytes:
        """See ``fl_core.training.one_task.Spend``.

        Raises:
            InvariantError: the device has nothing left; ``verify`` was not asked.
        """
        self._filter_of(terms).spend(device, terms.cost)
        return hashlib.blake2b(
            f"{task.campaign}/{task.task_id}/{task.attempt}/{device}".encode(), digest_size=KEY_BYTES
        ).digest()

    def _filter_of(self, terms: Terms) -> PrivacyFilter:
        if self._filter is None:
            self._filter = PrivacyFilter(terms.budget)
        return self._filter
