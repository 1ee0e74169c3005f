"""When a child that died is started again: after pauses that double, and not for ever."""

from __future__ import annotations

import time

from fl_core.backoff import Backoff

CALM_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 15.0


class Restarts:
    """Deaths in a row; a row ends when the child has lived for a while, or has done what it is there for.

    Args:
        most: so many in a row, and it is given up.
        calm_seconds: a life of this length begins a new row; infinite for a child that is judged by its work alone.

    >>> restarts = Restarts(most=3)
    >>> [restarts.pause_after_death() for _ in range(3)]
    [0.2, 0.4, None]
    """

    def __init__(self, most: int, calm_seconds: float = CALM_SECONDS) -> None:
        self._most = most
        self._calm_seconds = calm_seconds
        self._started = time.monotonic()
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS)
        self.in_a_row = 0

    def note_start(self) -> None:
        """It lives again."""
        self._started = time.monotonic()

    def note_work(self) -> None:
        """It has done what it is there for: whatever it dies of next is something new."""
        self.in_a_row = 0
        self._pauses.reset()

    def pause_after_death(self) -> float | None:
        """Seconds to wait before it is started again; None when that is no use any more."""
        if time.monotonic() - self._started > self._calm_seconds:
            self.note_work()
        self.in_a_row += 1
        if self.in_a_row >= self._most:
            return None
        return self._pauses.next()
