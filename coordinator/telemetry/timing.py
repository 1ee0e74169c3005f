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

from collections.abc import Mapping

from fl_core.wire.histogram import SECONDS, Histograms, histograms
from fl_core.wire.status import TimingStatus

PARTS = ("queue", "fetch", "train", "encode", "send", "log", "merge")
REPORTED = ("queue", "fetch", "train", "encode")
WORK = ("publish", "evaluate", "checkpoint")
# Upper bounds of the buckets of updates' sizes.
BYTE_BOUNDS = tuple(1024.0 * 4**power for power in range(12))
# A worker's word is bounded: a day is longer than any task may take.
MAX_SECONDS = 86_400.0


class Timing:
    """Sums and histograms of the parts, of the coordinator's own work, and of the updates' sizes.

    Attributes:
        num_updates: updates that were timed.
    """

    def __init__(self) -> None:
        self.num_updates = 0
        self._parts = histograms(PARTS, SECONDS)
        self._work = histograms(WORK, SECONDS)
        self._sizes = histograms(("update",), BYTE_BOUNDS)

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
            self._parts[part].add(seconds)
        self._parts["send"].add(max(left, 0.0))
        self._parts["log"].add(max(log_seconds, 0.0))
        self._parts["merge"].add(merge_seconds)
        self._sizes["update"].add(num_bytes)

    def add_publish(self, seconds: float) -> None:
        """Count one version that was written to the broker."""
        self._work["publish"].add(seconds)

    def add_evaluation(self, seconds: float) -> None:
        """Count one version that was scored; from the request to the result."""
        self._work["evaluate"].add(seconds)

    def add_checkpoint(self, seconds: float) -> None:
        """Count one checkpoint that was written; from a thread beside the merging."""
        self._work["checkpoint"].add(seconds)

    def export(self) -> TimingStatus:
        """All counts so far, a kilobyte at most."""
        return TimingStatus(self.num_updates, self._parts, self._work, self._sizes)

    def restore(self, exported: TimingStatus | None) -> None:
        """Go on from what an earlier coordinator had counted; what was written by another program is left out."""
        if exported is None or exported.parts.keys() != self._parts.keys():
            return
        self.num_updates = exported.updates
        self._parts = _restored(self._parts, exported.parts)
        self._work = _restored(self._work, exported.work)
        self._sizes = _restored(self._sizes, exported.sizes)


def _restored(ours: Histograms, exported: Histograms) -> Histograms:
    """What was exported, if it has our names and bounds; else what we have."""
    fits = ours.keys() == exported.keys() and all(exported[name].bounds == each.bounds for name, each in ours.items())
    return {name: exported[name] for name in ours} if fits else ours
