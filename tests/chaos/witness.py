"""Somebody who looks at the broker now and then and notes which versions were published, and with what contents."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict

import redis

EVERY_SECONDS = 0.2


class Witness:
    """Notes the pointers of a server's campaigns.

    Args:
        url: the server.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)
        self._next = 0.0
        self.seen: dict[int, set[str]] = defaultdict(set)

    def look(self) -> None:
        """Note what is published now, if there is a server; a few times a second at most."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_SECONDS
        with contextlib.suppress(redis.RedisError, ValueError):
            for key in self._client.scan_iter("fedtide:c:*:head", count=1000):
                version, digest = self._client.hmget(key, "version", "digest")
                if version and digest:
                    self.seen[int(version)].add(digest.decode())

    @property
    def changed(self) -> int:
        """Versions that were seen with more than one content."""
        return sum(len(digests) > 1 for digests in self.seen.values())
