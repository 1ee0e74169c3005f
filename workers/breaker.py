"""One campaign's fault is not charged to its neighbours: a breaker per campaign on this device.

A task that fails opens the campaign's breaker, for a time that doubles with each failure in a row. Meanwhile its
doorbells are passed on (``workers/passing.py``): another device may be able to do what this one cannot. Then one task
is tried, the one that was seen first: coordinators judge by the oldest tasks whether anybody may yet answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from fl_core.backoff import Backoff
from fl_core.wire.messages import TaskCall

FIRST_SECONDS = 0.5
LAST_SECONDS = 30.0
# From the second failure in a row on: so many times what it took, at most so long. What a campaign wastes of a device's
# time stays under a twentieth.
COST_FACTOR = 20.0
MAX_COST_SECONDS = 600.0
# A campaign that may have nothing more of this device is tried again so seldom: its terms may have changed.
REST_SECONDS = 600.0
_WAITS = {
    "resting": ("this device rests until a newer version", 0.5),
    "spent": ("this device has spent its privacy budget", REST_SECONDS),
}
"""What a claim may say that is no failure: the reason, and after how many seconds the campaign is asked again."""
MAX_CAMPAIGNS = 64
MAX_SEEN = 4096


@dataclass(slots=True)
class _State:
    failures: int = 0
    pauses: Backoff = field(default_factory=lambda: Backoff(FIRST_SECONDS, LAST_SECONDS))
    until: float = 0.0
    why: str = ""
    seen: OrderedDict[tuple[str, int], TaskCall] = field(default_factory=OrderedDict)


class Breakers:
    """The breakers of the campaigns that failed here last; the clock is ``time.monotonic``."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, _State] = OrderedDict()

    def failed(self, campaign: str, seconds: float, why: str) -> None:
        """A task failed.

        Args:
            campaign: whose.
            seconds: how long it took.
            why: in words.
        """
        state = self._states.setdefault(campaign, _State())
        self._states.move_to_end(campaign)
        state.failures += 1
        pause = state.pauses.next()
        if state.failures > 1:
            pause = max(pause, min(MAX_COST_SECONDS, COST_FACTOR * seconds))
        state.until, state.why = time.monotonic() + pause, why
        while len(self._states) > MAX_CAMPAIGNS:
            self._states.popitem(last=False)

    def rest(self, campaign: str, why: str, seconds: float = REST_SECONDS) -> bool:
        """Its tasks are not for this device, which is nobody's failure; whether that is news.

        Args:
            campaign: whose.
            why: in words.
            seconds: until it is asked again.
        """
        state = self._states.setdefault(campaign, _State())
        self._states.move_to_end(campaign)
        news = state.failures > 0 or state.why != why
        state.failures, state.until, state.why = 0, time.monotonic() + seconds, why
        while len(self._states) > MAX_CAMPAIGNS:
            self._states.popitem(last=False)
        return news

    def was_told(self, campaign: str, why: str) -> bool:
        """Whether the campaign's last failure here was this one as well."""
        state = self._states.get(campaign)
        return state is not None and state.why == why[:200]

    def waits(self, campaign: str, verdict: str) -> bool:
        """Whether a claim was answered by having the device wait, which is nobody's failure."""
        if verdict in _WAITS:
            self.rest(campaign, *_WAITS[verdict])
        return verdict in _WAITS

    def worked(self, campaign: str) -> bool:
        """A task was done; whether the campaign had failed before it."""
        return self._states.pop(campaign, None) is not None

    def choose(self, call: TaskCall) -> TaskCall | None:
        """Which task to do now that this one's doorbell came: this one; an older one of its campaign; or None."""
        state = self._states.get(call.campaign)
        if state is None:
            return call
        state.seen.setdefault((call.task_id, call.attempt), call)
        while len(state.seen) > MAX_SEEN:
            state.seen.popitem(last=False)
        if time.monotonic() < state.until:
            return None
        return state.seen.popitem(last=False)[1]

    def trouble(self) -> str:
        """What does not work here, in one sentence; empty where all does."""
        for campaign, state in reversed(self._states.items()):
            if not state.failures:
                return f"{campaign}: {state.why}"
            left = max(0.0, state.until - time.monotonic())
            count = f"{state.failures} failures in a row" if state.failures > 1 else "a failure"
            return f"{campaign}: {count}, tried again after {left:.0f} s: {state.why}"
        return ""
