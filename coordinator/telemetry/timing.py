"""Where the time goes: the parts of each update's life, summed and counted in a histogram.

====== =================================================================================================================
part   from, to; and by whose clock
====== =================================================================================================================
queue  issued, claimed by a worker: the broker's server
fetch  claimed, base version at hand: the worker
train  base at hand, training ended: the worker
encode training ended, payload ready: the worker
send   payload ready, in the update log: what the server's clock leaves of the whole after the four parts above
log    in the update log, read by the coordinator: the server's clock, which the coordinator follows
merge  decoded, checked and folded in: the coordinator
====== =================================================================================================================

Every part is a difference on one clock, so no two machines' clocks need to agree. Beside the parts, the coordinator's
own work (publishing a version, evaluating one, writing a checkpoint) and the sizes of updates are counted the same way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

PARTS = ("queue", "fetch", "train", "encode", "send", "log", "merge")
REPORTED = ("queue", "fetch", "train", "encode")
WORK = ("publish", "evaluate", "checkpoint")
# Upper bounds of the histograms' buckets in seconds, and in bytes; one more holds the rest.
BOUNDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
BYTE_BOUNDS = tuple(1024.0 * 4**power for power in range(12))
# A worker's word is bounded: a day is longer than any task may take.
MAX_SECONDS = 86_400.0


class _Histograms:
    """Named histograms over the same bounds."""

    def __init__(self, names: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._sums = dict.fromkeys(names, 0.0)
        self._counts = {name: [0] * (len(bounds) + 1) for name in names}

    def add(self, name: str, value: float) -> None:
        """Count one value."""
        self._sums[name] += value
        self._counts[name][bisect_left(self._bounds, value)] += 1

    def export(self) -> dict[str, Any]:
        """``bounds``, and by name ``sums`` and ``counts`` per bucket."""
        return {
            "bounds": list(self._bounds),
            "sums": {name: round(total, 4) for name, total in self._sums.items()},
            "counts": {name: list(counts) for name, counts in self._counts.items()},
        }

    def restore(self, exported: Mapping[str, Any]) -> None:
        """The inverse; of histograms of another form nothing is taken."""
        if list(exported.get("bounds", ())) != list(self._bounds) or set(exported.get("sums", ())) != set(self._sums):
            return
        self._sums = {name: float(exported["sums"][name]) for name in self._sums}
        self._counts = {name: [int(count) for count in exported["counts"][name]] for name in self._sums}


class Timing:
    """Sums and histograms of the parts, of the coordinator's own work, and of the updates' sizes.

    Attributes:
        num_updates: updates that were timed.
    """

    def __init__(self) -> None:
        self.num_updates = 0
        self._parts = _Histograms(PARTS, BOUNDS)
        self._work = _Histograms(WORK, BOUNDS)
        self._sizes = _Histograms(("update",), BYTE_BOUNDS)

    def add_update(
        self,
        reported: Mapping[str, float],
        *,
        life_seconds: float,
        log_seconds: float,
        merge_seconds: float,
        num_bytes: int = 0,
    ) -> None:
        """Count one admitted update.

        Args:
            reported: the worker's own parts; unknown names are left out, values are bounded to [0, one day].
            life_seconds: from issue to the update log, by the server's clock.
            log_seconds: from the update log to the coordinator.
            merge_seconds: what the coordinator did with it.
            num_bytes: of its payload.
        """
        self.num_updates += 1
        left = life_seconds
        for part in REPORTED:
            seconds = min(max(reported.get(part, 0.0), 0.0), MAX_SECONDS)
            left -= seconds
            self._parts.add(part, seconds)
        self._parts.add("send", max(left, 0.0))
        self._parts.add("log", max(log_seconds, 0.0))
        self._parts.add("merge", merge_seconds)
        self._sizes.add("update", num_bytes)

    def add_publish(self, seconds: float) -> None:
        """Count one version that was written to the broker."""
        self._work.add("publish", seconds)

    def add_evaluation(self, seconds: float) -> None:
        """Count one version that was scored; from the request to the result."""
        self._work.add("evaluate", seconds)

    def add_checkpoint(self, seconds: float) -> None:
        """Count one checkpoint that was written; from a thread beside the merging."""
        self._work.add("checkpoint", seconds)

    def export(self) -> dict[str, Any]:
        """Plain msgpack types, a kilobyte at most: histograms of the parts, of ``work`` and of ``sizes`` (bytes)."""
        return {
            "updates": self.num_updates,
            **self._parts.export(),
            "work": self._work.export(),
            "sizes": self._sizes.export(),
        }

    def restore(self, exported: Mapping[str, Any]) -> None:
        """Go on from what an earlier coordinator had counted; what was written by another program is left out."""
        if set(exported.get("sums", ())) != set(PARTS):
            return
        self.num_updates = int(exported["updates"])
        self._parts.restore(exported)
        self._work.restore(exported.get("work", {}))
        self._sizes.restore(exported.get("sizes", {}))
