"""Messages that are no doorbells: counted, and logged without filling a disk."""

from __future__ import annotations

import time

import structlog

log = structlog.get_logger()

# The first ones are logged one by one, later ones together: a flood does not fill a disk.
_TOLD_EACH = 8
_TOLD_SECONDS = 10.0


class Dropped:
    """What was dropped in this process, and when that was last logged."""

    def __init__(self) -> None:
        self._count = 0
        self._told = 0.0

    def add(self, queue: str, why: str) -> None:
        """One more, from this queue; it may be logged."""
        self._count += 1
        now = time.monotonic()
        if self._count > _TOLD_EACH and now - self._told < _TOLD_SECONDS:
            return
        self._told = now
        log.warning("a message that is no doorbell was dropped", queue=queue, reason=why, dropped_so_far=self._count)


dropped = Dropped()
