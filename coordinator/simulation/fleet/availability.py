"""When a device is there: once a day for a while, or as a trace says."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

DAY = 86_400.0


class Availability(Protocol):
    """When a device can take and do tasks, in seconds since the campaign began."""

    def leaves_at(self, moment: float) -> float:
        """When it leaves, if it is there; ``moment`` itself if it is not."""
        ...

    def returns_at(self, moment: float) -> float:
        """When it is there next; infinity for never again."""
        ...


@dataclass(frozen=True, slots=True)
class Daily:
    """There from ``start`` for ``length`` seconds of each day.

    >>> evening = Daily(start=18 * 3600, length=7 * 3600)
    >>> evening.leaves_at(23 * 3600) / 3600, evening.leaves_at(3600.0) / 3600, evening.returns_at(3600.0) / 3600
    (25.0, 1.0, 18.0)
    """

    start: float
    length: float

    def leaves_at(self, moment: float) -> float:
        """See ``Availability``."""
        if self.length >= DAY:
            return math.inf
        begun = (moment - self.start) % DAY
        return moment + self.length - begun if begun < self.length else moment

    def returns_at(self, moment: float) -> float:
        """See ``Availability``."""
        return moment + (self.start - moment) % DAY


@dataclass(frozen=True, slots=True)
class Traced:
    """There from each start to the end of the same number, in rising order."""

    starts: Sequence[float]
    ends: Sequence[float]

    def leaves_at(self, moment: float) -> float:
        """See ``Availability``."""
        at = bisect.bisect_right(self.starts, moment) - 1
        return self.ends[at] if at >= 0 and moment < self.ends[at] else moment

    def returns_at(self, moment: float) -> float:
        """See ``Availability``."""
        at = bisect.bisect_left(self.starts, moment)
        return self.starts[at] if at < len(self.starts) else math.inf
