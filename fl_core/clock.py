"""A program's clock, and waiting by it: handed in wherever something waits, so that a test or a simulation is not bound
to wait itself."""

from __future__ import annotations

import threading
import time


class Clock:
    """This machine's. Another one has the same three methods."""

    def monotonic(self) -> float:
        """Seconds since some moment; they never go back."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since 1970; they may be set."""
        return time.time_ns() // 10**6

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        """Let time pass, and say whether the event has come meanwhile, which ends the waiting.

        Args:
            seconds: at most.
            until: what may come first; None for nothing.
        """
        if until is not None:
            return until.wait(seconds)
        time.sleep(seconds)
        return False


MACHINE = Clock()
"""The one of this machine."""
