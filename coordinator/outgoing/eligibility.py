"""Devices that may still contribute: where none of those that are there may give any more away, a campaign is over."""

from __future__ import annotations

import structlog

from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from coordinator.outgoing.lookout import Fleet, Lookout

WORD_SECONDS = 60.0

log = structlog.get_logger()


class Eligibility:
    """Looks once a second.

    A device may contribute if its budget has room for a fresh update and it need not rest. With noise of its own it
    keeps the budget itself, and says when it may give no more. All that are known at the campaign's queues count, also
    those that were silent lately.

    Args:
        ctx, state: the campaign's.
        lookout: names the workers of a large fleet.
    """

    def __init__(self, ctx: Context, state: CampaignState, lookout: Lookout) -> None:
        self._ctx = ctx
        self._state = state
        self._lookout = lookout
        self._since: float | None = None
        self._next_word = 0.0

    def is_nobody_left(self, fleet: Fleet) -> bool:
        """Whether no device that is there may contribute, and has not for a while, since budgets are spent.

        Where all only rest, more devices are needed, which may yet come: that is logged once a minute.

        Raises:
            BrokerUnavailable: unknown.
        """
        privacy, spent = self._state.privacy, frozenset(self._state.contributions.given_all)
        if privacy is None and not spent:
            self._since = None
            return False
        now, resting = self._ctx.machine.monotonic(), frozenset[str]()
        if privacy is not None:
            spent |= privacy.spent
            resting = frozenset(privacy.resting(self._state.strategy.version))
        there = self._there(fleet, len(spent) + len(resting))
        if not there or there - spent - resting:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        if spent.isdisjoint(there):
            self._tell(self._state.merging.num_waiting, len(there), now - self._since)
            return False
        return now - self._since >= self._ctx.cadence.nobody_left_seconds

    def _there(self, fleet: Fleet, num_idle: int) -> frozenset[str]:
        if fleet.present is not None:
            return frozenset(fleet.present)
        return frozenset() if num_idle < fleet.num_live else self._lookout.names()

    def _tell(self, num_waiting: int, num_there: int, seconds: float) -> None:
        if seconds < self._ctx.cadence.nobody_left_seconds or (now := self._ctx.machine.monotonic()) < self._next_word:
            return
        self._next_word = now + WORD_SECONDS
        log.warning(
            "nothing is merged before more devices come, since with privacy each is in a version once, and all rest",
            campaign=self._ctx.identity.campaign, devices=num_there, buffered=num_waiting,
            remedy="start more workers, or lower aggregation.buffer_size or privacy.min_separation",
        )  # fmt: skip
