"""The age of claims by this machine's clock: the server's, which stamped them, may have been set since."""

from __future__ import annotations

from fl_core.clock import MACHINE, Clock


class Claims:
    """Remembers since when each claim has been seen. What was claimed before the first look, the stamp says.

    Args:
        clock: this machine's.
        from_the_start: each claim is asked for at every look since it was made, so that a new one is no older than the
            last look.
    """

    def __init__(self, clock: Clock = MACHINE, *, from_the_start: bool = True) -> None:
        self._clock = clock
        self._from_the_start = from_the_start
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

    def age_seconds(self, number: int, attempt: int, claimed_ms: int, server_ms: int) -> float:
        """How long ago a task was claimed; asked once per claim and look.

        Args:
            number, attempt: of the task.
            claimed_ms: when the server has stamped the claim.
            server_ms: the server's clock now.
        """
        known = self._since.get(number)
        if known is None or known[:2] != (attempt, claimed_ms):
            stamped = max(0.0, (server_ms - claimed_ms) / 1000)
            is_new = known is not None or self._from_the_start
            known = (attempt, claimed_ms, self._now - (min(stamped, self._patience) if is_new else stamped))
        self._next[number] = known
        return self._now - known[2]

    def end_look(self) -> None:
        """Claims that were not asked for are gone."""
        self._since, self._next = self._next, {}
