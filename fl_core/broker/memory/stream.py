"""A stream: entries in the order of their positions, which only rise."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TypeAlias

import redis

Position: TypeAlias = tuple[int, int]
Entry: TypeAlias = tuple[bytes, list[bytes]]

FIRST: Position = (0, 0)
LAST: Position = (2**64 - 1, 2**64 - 1)


def read_position(word: bytes, *, sequence: int = 0) -> Position:
    """A position as it is written; one without its second number has ``sequence``.

    Raises:
        redis.ResponseError: it is none.

    >>> read_position(b"5-10"), read_position(b"5", sequence=7)
    ((5, 10), (5, 7))
    """
    first, _, second = word.partition(b"-")
    try:
        return int(first), int(second) if second else sequence
    except ValueError:
        raise redis.ResponseError("Invalid stream ID specified as stream command argument") from None


def write_position(position: Position) -> bytes:
    """As it is written."""
    return b"%d-%d" % position


class Stream:
    """One stream.

    Attributes:
        last: the newest position that it ever had.
    """

    def __init__(self) -> None:
        self._positions: list[Position] = []
        self._rows: list[list[bytes]] = []
        self.last: Position = FIRST

    def __len__(self) -> int:
        return len(self._positions)

    def add(self, wanted: bytes, now_ms: float, fields: list[bytes]) -> bytes:
        """Append an entry; ``wanted`` is its position, or ``*`` for one by the clock.

        Raises:
            redis.ResponseError: the stream is further than that.
        """
        if wanted == b"*":
            milliseconds = int(now_ms)
            position = (milliseconds, 0) if milliseconds > self.last[0] else (self.last[0], self.last[1] + 1)
        else:
            position = read_position(wanted)
            if position <= self.last:
                raise redis.ResponseError(
                    "The ID specified in XADD is equal or smaller than the target stream top item"
                )
        self._positions.append(position)
        self._rows.append(fields)
        self.last = position
        return write_position(position)

    def between(self, low: Position, high: Position, count: int | None = None, *, newest: bool = False) -> list[Entry]:
        """Entries from ``low`` to ``high``; of more than ``count`` the first ones, or the newest, which come first."""
        start, stop = bisect_left(self._positions, low), bisect_right(self._positions, high)
        if count is not None:
            start, stop = (max(start, stop - count), stop) if newest else (start, min(stop, start + count))
        found = [(write_position(self._positions[at]), list(self._rows[at])) for at in range(start, stop)]
        return found[::-1] if newest else found

    def after(self, position: Position, count: int | None = None) -> list[Entry]:
        """Entries behind a position."""
        if position >= self.last:
            return []
        return self.between((position[0], position[1] + 1), LAST, count)

    def trim_below(self, position: Position) -> int:
        """Drop what is before a position; how many those were."""
        count = bisect_left(self._positions, position)
        del self._positions[:count], self._rows[:count]
        return count

    def keep_newest(self, count: int) -> int:
        """Drop all but so many; how many those were."""
        extra = max(0, len(self) - count)
        del self._positions[:extra], self._rows[:extra]
        return extra

    def remove(self, position: Position) -> bool:
        """Drop one entry."""
        at = bisect_left(self._positions, position)
        if at == len(self) or self._positions[at] != position:
            return False
        del self._positions[at], self._rows[at]
        return True

    def weigh(self, samples: int) -> int:
        """About what it takes, by its newest entries (0: by all)."""
        chosen = self._rows[-samples:] if samples else self._rows
        weight = sum(sum(map(len, row)) for row in chosen)
        return round(weight * len(self) / len(chosen)) if chosen else 0
