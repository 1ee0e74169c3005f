"""Pauses between attempts, each longer than the one before: for whatever fails and is tried again."""

from __future__ import annotations


class Backoff:
    """One row of attempts.

    Args:
        first: the first pause, in seconds.
        last: the longest one.
        factor: by which they grow.

    >>> pauses = Backoff(0.2, 1.0)
    >>> [pauses.next() for _ in range(4)]
    [0.2, 0.4, 0.8, 1.0]
    """

    def __init__(self, first: float, last: float, factor: float = 2.0) -> None:
        self._first = first
        self._last = last
        self._factor = factor
        self._pause = min(first, last)

    def next(self) -> float:
        """Seconds until the next attempt."""
        pause = self._pause
        self._pause = min(self._last, pause * self._factor)
        return pause

    @property
    def has_grown(self) -> bool:
        """Whether pauses have become as long as they do."""
        return self._pause >= self._last

    def reset(self) -> None:
        """It went well: the next failure begins a new row."""
        self._pause = min(self._first, self._last)
