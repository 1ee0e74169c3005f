"""A campaign's time, as its log tells it: positions are the server's clock, and events say what to add to that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fl_core.wire.log_entry import LogEntry


@dataclass(slots=True)
class Timeline:
    """When the campaign was opened, and how its time follows from positions.

    Attributes:
        opened_ms: campaign time; 0 before that.
        clock_shift_ms: what positions' times are corrected by, because the server's clock was set.
    """

    opened_ms: int = 0
    clock_shift_ms: int = 0

    def moment(self, entry: LogEntry) -> int:
        """When an entry that is applied now was written, in campaign time (ms)."""
        return entry.milliseconds + self.clock_shift_ms

    def seconds(self, moment_ms: int) -> float:
        """Seconds since the campaign was opened."""
        return round(max(0, moment_ms - self.opened_ms) / 1000, 3)

    def correct(self, shift_ms: int, entry: LogEntry) -> int:
        """The server's clock was set. What was stamped before that may lie in the future: it is now.

        Returns:
            The time of this entry, after which nothing can have happened yet.
        """
        self.clock_shift_ms = shift_ms
        now_ms = self.moment(entry)
        self.opened_ms = min(self.opened_ms, now_ms)
        return now_ms

    def export(self) -> dict[str, Any]:
        """All state, as plain values."""
        return {"opened_ms": self.opened_ms, "clock_shift_ms": self.clock_shift_ms}

    def restore(self, meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``; an earlier release's state has no shift."""
        self.opened_ms, self.clock_shift_ms = meta["opened_ms"], meta.get("clock_shift_ms", 0)
