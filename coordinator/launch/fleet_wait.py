"""Waiting for the workers of this machine, as long as some of them get further."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable

from coordinator.launch.fleet import Fleet
from fl_core.errors import CampaignError

# A machine that compiles something else beside it may take a minute to load torch in two workers. Nothing takes this.
LONGEST_SECONDS = 300.0


class FleetWait:
    """Ends a wait in which nothing moves any more, and says what is waited for.

    Args:
        fleet: its workers are waited for.
        doing: what they are to do, as in "for fast-2 to load torch".
        say: called at each look with whom it waits for.
        seconds: how long nothing may change.
    """

    def __init__(self, fleet: Fleet, doing: str, say: Callable[[str], None], seconds: float = LONGEST_SECONDS) -> None:
        self._fleet = fleet
        self._doing = doing
        self._say = say
        self._seconds = seconds
        self._seen: Hashable = None
        self._moved = self._started = time.monotonic()

    def look(self, missing: Iterable[str], signs: Hashable = None) -> None:
        """Call it again and again while one waits.

        Args:
            missing: names of the workers that are waited for.
            signs: whatever else changes when one of them gets further.

        Raises:
            CampaignError: one of them has ended, or nothing has changed for too long; with its last words.
        """
        names = sorted(missing)
        self._fleet.check()
        ended = self._fleet.ended()
        for name in names:
            if name in ended:
                raise CampaignError(f"worker {name} has ended; it said: {self._fleet.last_words(name)}")
        now = time.monotonic()
        if (signs, *names) != self._seen:
            self._seen, self._moved = (signs, *names), now
        if not names:
            return
        if now - self._moved > self._seconds:
            raise CampaignError(
                f"waited {self._seconds:.0f} s for worker {names[0]} to {self._doing}, and nothing moved; "
                f"it said: {self._fleet.last_words(names[0])}"
            )
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        self._say(f"waiting for {listed} to {self._doing} ({now - self._started:.0f} s)")
