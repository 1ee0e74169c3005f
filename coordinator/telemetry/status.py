"""A running campaign as people see it: the status at the broker, and the progress of ``fedtide run``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack

from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import Summary, describe_devices, outline, summarise
from coordinator.telemetry.staleness_histogram import staleness_histogram
from coordinator.telemetry.timing import Timing
from fl_core.aggregation import Merge
from fl_core.broker.clock import CampaignClock
from fl_core.spec import CampaignSpec
from fl_core.vectors.layout import Layout
from fl_core.wire.states import FAILED
from fl_core.wire.status import Status

# The status is rewritten twice a second: of a big fleet it names those that contributed most.
MAX_NAMED_WORKERS = 64
RATE_SECONDS = 5.0
# Ranking a fleet of a hundred thousand takes a tenth of a second: it gets this share of the time, and no more.
RANKING_SHARE = 1 / 200


class StatusWriter:
    """Looks at the state and says how it stands; it decides nothing.

    Args:
        campaign, spec, state, layout, timing, clock: the campaign's.
        on_progress: called each time.

    Attributes:
        live_workers, claimed: as of the last survey.
        keepers: those without whom nothing is merged, in words.
    """

    def __init__(
        self,
        campaign: str,
        spec: CampaignSpec,
        state: CampaignState,
        layout: Layout,
        timing: Timing,
        clock: CampaignClock,
        on_progress: Callable[[Status], None],
    ) -> None:
        self._campaign = campaign
        self._spec = spec
        self._state = state
        self._layout = layout
        self._timing = timing
        self._clock = clock
        self._on_progress = on_progress
        self._merge_times: deque[tuple[float, int]] = deque()
        self._devices: Mapping[str, Any] = {}
        self._next_ranking = 0.0
        self.live_workers = self.claimed = 0
        self.keepers = ""

    def note_merges(self, merges: Iterable[Merge]) -> None:
        """These happened just now."""
        now = self._clock.machine.monotonic()
        self._merge_times += [(now, merge.num_updates) for merge in merges]

    def summarise(self) -> Summary:
        """The whole summary as of now; see ``coordinator/campaign/summary.py``."""
        return summarise(self._campaign, self._spec, self._state, self._layout, now_ms=self._clock.now_ms())

    def _describe_devices(self) -> Mapping[str, Any]:
        began = self._clock.machine.monotonic()
        if began >= self._next_ranking or self._state.phase.is_over:
            self._devices = describe_devices(self._spec, self._state, self._layout, MAX_NAMED_WORKERS)
            ended = self._clock.machine.monotonic()
            self._next_ranking = ended + (ended - began) / RANKING_SHARE
        return self._devices

    def write(self, checkpoint_age_seconds: float, failure: str = "") -> bytes:
        """Tell the display, and return the status for the broker (msgpack).

        Args:
            checkpoint_age_seconds: of the newest.
            failure: why this coordinator ends without an end of the campaign.
        """
        now_ms = self._clock.now_ms()
        summary = outline(self._campaign, self._spec, self._state, self._layout, now_ms=now_ms)
        summary |= self._describe_devices()
        now = self._clock.machine.monotonic()
        while self._merge_times and self._merge_times[0][0] < now - RATE_SECONDS:
            self._merge_times.popleft()
        rate = sum(count for _, count in self._merge_times) / RATE_SECONDS
        status = Status.from_map(
            {
                **summary,
                **({"state": FAILED, "stop_reason": failure} if failure else {}),
                "live_workers": self.live_workers,
                "claimed": self.claimed,
                "buffered": self._state.merging.num_waiting,
                "buffer_size": self._spec.aggregation.buffer_size,
                "waits_for": self.keepers or str(getattr(self._state.strategy, "waits_for", "")),
                "recent_updates_per_second": round(rate, 2),
                "checkpoint_age_seconds": round(checkpoint_age_seconds, 1),
                "written_ms": self._clock.server_ms(),
                "queues": list(self._spec.dispatch.queues),
                "concurrency": self._spec.dispatch.concurrency,
                "stop": self._spec.stop.model_dump(mode="json", exclude_none=True, exclude={"metric"}),
                "targets": [
                    {"metric": target.name, "bound": target.bound, "higher_is_better": target.at_least is not None}
                    for target in self._spec.stop.targets
                ],
                "staleness_histogram": staleness_histogram(self._state.contributions.staleness.items()).to_map(),
                "timing": self._timing.export().to_map(),
            }
        )
        self._on_progress(status)
        packed: bytes = msgpack.packb(status.to_map())
        return packed
