"""How long the broker has been away, when to try again, and when to say so."""

from __future__ import annotations

from fl_core.clock import MACHINE, Clock

FIRST_PAUSE_SECONDS = 0.1
LAST_PAUSE_SECONDS = 2.0
WORD_SECONDS = 10.0


class Outage:
    """One stretch of time without the broker; begins when it is made."""

    def __init__(self, clock: Clock = MACHINE) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._pause = FIRST_PAUSE_SECONDS
        self._next_word = 0.0

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return self._clock.monotonic() - self._since

    def next_pause(self) -> float:
        """Seconds until the next attempt; they grow."""
        pause = self._pause
        self._pause = min(LAST_PAUSE_SECONDS, pause * 1.5)
        return pause

    def is_worth_a_word(self) -> bool:
        """True at first and then every ten seconds: an outage is logged now and then, not each time."""
        if self._clock.monotonic() < self._next_word:
            return False
        self._next_word = self._clock.monotonic() + WORD_SECONDS
        return True
