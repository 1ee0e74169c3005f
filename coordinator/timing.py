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

Every part is a difference on one clock, so no two machines' clocks need to agree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

PARTS = ("queue", "fetch", "train", "encode", "send", "log", "merge")
REPORTED = ("queue", "fetch", "train", "encode")
# Upper bounds of the histogram's buckets in seconds; one more holds the rest.
BOUNDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# A worker's word is bounded: a day is longer than any task may take.
MAX_SECONDS = 86_400.0


class Timing:
    """Sums and histograms per part, and how long publishing and evaluating have taken.

    Attributes:
        num_updates: updates that were timed.
    """

    def __init__(self) -> None:
        self.num_updates = 0
        self._sums = dict.fromkeys(PARTS, 0.0)
        self._counts = {part: [0] * (len(BOUNDS) + 1) for part in PARTS}
        self._publishes = 0
        self._publish_seconds = 0.0
        self._evaluations = 0
        self._evaluate_seconds = 0.0

    def add_update(
        self, reported: Mapping[str, float], *, life_seconds: float, log_seconds: float, merge_seconds: float
    ) -> None:
        """Count one admitted update.

        Args:
            reported: the worker's own parts; unknown names are left out, values are bounded to [0, one day].
            life_seconds: from issue to the update log, by the server's clock.
            log_seconds: from the update log to the coordinator.
            merge_seconds: what the coordinator did with it.
        """
        self.num_updates += 1
        left = life_seconds
        for part in REPORTED:
            seconds = min(max(reported.get(part, 0.0), 0.0), MAX_SECONDS)
            left -= seconds
            self._add(part, seconds)
        self._add("send", max(left, 0.0))
        self._add("log", max(log_seconds, 0.0))
        self._add("merge", merge_seconds)

    def add_publish(self, seconds: float) -> None:
        """Count one version that was written to the broker."""
        self._publishes += 1
        self._publish_seconds += seconds

    def add_evaluation(self, seconds: float) -> None:
        """Count one version that was scored; from the request to the result."""
        self._evaluations += 1
        self._evaluate_seconds += seconds

    def export(self) -> dict[str, Any]:
        """Plain msgpack types: ``sums`` in seconds and ``counts`` per bucket, by part; some hundred bytes."""
        return {
            "updates": self.num_updates,
            "sums": {part: round(seconds, 4) for part, seconds in self._sums.items()},
            "bounds": list(BOUNDS),
            "counts": {part: list(counts) for part, counts in self._counts.items()},
            "publishes": self._publishes,
            "publish_seconds": round(self._publish_seconds, 4),
            "evaluations": self._evaluations,
            "evaluate_seconds": round(self._evaluate_seconds, 4),
        }

    def restore(self, exported: Mapping[str, Any]) -> None:
        """Go on from what an earlier coordinator had counted; what was written by another program is left out."""
        if list(exported.get("bounds", ())) != list(BOUNDS) or set(exported.get("sums", ())) != set(PARTS):
            return
        self.num_updates = int(exported["updates"])
        self._sums = {part: float(exported["sums"][part]) for part in PARTS}
        self._counts = {part: [int(count) for count in exported["counts"][part]] for part in PARTS}
        self._publishes = int(exported["publishes"])
        self._publish_seconds = float(exported["publish_seconds"])
        self._evaluations = int(exported.get("evaluations", 0))
        self._evaluate_seconds = float(exported.get("evaluate_seconds", 0.0))

    def _add(self, part: str, seconds: float) -> None:
        self._sums[part] += seconds
        self._counts[part][bisect_left(BOUNDS, seconds)] += 1
