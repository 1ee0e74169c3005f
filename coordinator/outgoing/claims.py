"""The age of claims by this machine's clock: the server's, which stamped them, may have been set since."""

from __future__ import annotations

from fl_core.broker.task_rows import Owner
from fl_core.clock import MACHINE, Clock


class Claims:
    """Remembers since when each claim has been seen. What was claimed before the first look, the stamp says.

    Args:
        clock: this machine's.
    """

    def __init__(self, clock: Clock = MACHINE) -> None:
        self._clock = clock
        self._since: dict[int, tuple[int, int, float]] = {}
        self._next: dict[int, tuple[int, int, float]] = {}
        self._last_look: float | None = None
        self._now = self._patience = 0.0

    def begin_look(self) -> None:
        """A look at all claims begins."""
        self._now = self._clock.monotonic()
        # A claim that is new was made since the last look.
        self._patience = float("inf") if self._last_look is None else self._now - self._last_look
        self._last_look = self._now

    def age_seconds(self, number: int, owner: Owner, server_ms: int) -> float:
        """How long ago a task was claimed; asked once per claim and look.

        Args:
            number: of the task.
            owner: who claimed it.
            server_ms: the server's clock now.
        """
        known = self._since.get(number)
        if known is None or known[:2] != (owner.attempt, owner.claimed_ms):
            stamped = max(0.0, (server_ms - owner.claimed_ms) / 1000)
            known = (owner.attempt, owner.claimed_ms, self._now - min(stamped, self._patience))
        self._next[number] = known
        return self._now - known[2]

    def end_look(self) -> None:
        """Claims that were not asked for are gone."""
        self._since, self._next = self._next, {}
