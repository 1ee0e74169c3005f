"""A broker that is set to evict keys while a campaign runs: said once, and named where something is missing."""

from __future__ import annotations

import structlog

from fl_core.broker.connection import Client
from fl_core.broker.server.capacity import Evicting, evicting
from fl_core.clock import MACHINE, Clock

LOOK_SECONDS = 10.0
WORD_SECONDS = 60.0

log = structlog.get_logger()


class Evictions:
    """Looks at the server's policy and at how many keys it has evicted.

    Args:
        client: the broker's.
        clock: this machine's.
    """

    def __init__(self, client: Client, clock: Clock = MACHINE) -> None:
        self._client = client
        self._clock = clock
        self._next_look = self._next_word = 0.0
        self._seen: Evicting | None = None
        self._evicted = 0

    def look(self) -> None:
        """Look if it is time, and say what has changed."""
        if self._clock.monotonic() >= self._next_look:
            self._look()

    def blame(self) -> str:
        """Whether something may be missing because it was evicted, as the end of a sentence; empty if not."""
        before = self._evicted
        self._look()
        if self._seen is None or self._evicted == before == 0:
            return ""
        return f"; it has evicted {self._evicted} keys under maxmemory-policy {self._seen.policy}: set noeviction"

    def _look(self) -> None:
        now = self._clock.monotonic()
        self._next_look = now + LOOK_SECONDS
        seen, before = evicting(self._client), self._seen
        self._seen = seen
        if seen is None:
            if before is not None:
                log.info("the broker evicts no keys any more")
            return
        if before is None:
            self._evicted = 0
            log.error(
                "the broker evicts keys when it is full", policy=seen.policy, danger=seen.danger,
                remedy="set maxmemory-policy noeviction",
            )  # fmt: skip
        if seen.evicted_keys > self._evicted and now >= self._next_word:
            self._next_word = now + WORD_SECONDS
            log.error(
                "the broker has evicted keys", keys=seen.evicted_keys, policy=seen.policy,
                remedy="set maxmemory-policy noeviction and raise maxmemory",
            )  # fmt: skip
        self._evicted = seen.evicted_keys
