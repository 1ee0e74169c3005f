"""Signs that the broker is older than this coordinator's memory, before a commit has met it.

A commit finds out by itself that earlier ones are gone (``fl_core/broker/lease.py``). What workers have written, and
what somebody has deleted, shows in this: what was read is no longer there, what was written never comes, or what is
rung for cannot be claimed. Each is proof of a loss, whatever its cause: a power cut, a snapshot, a replica, eviction.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from coordinator.campaign.ledger import OpenTask
from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from fl_core.broker.lease import OLDER, LostData
from fl_core.broker.task_rows import OpenRow
from fl_core.wire.log_entry import order

MAX_VERIFIED = 100
# A task that is rung for so often, and that nobody claims though it can be claimed, is taken and dropped by somebody.
MANY_RINGS = 5
WORD_SECONDS = 300.0

log = structlog.get_logger()


class Stalls:
    """Looks once a second.

    Args:
        ctx: the campaign.
        trimmed: up to where the log may have been trimmed.

    Attributes:
        caught_up: the log was read to its end since the last look.
        trimmed: set whenever the log is trimmed.
    """

    def __init__(self, ctx: Context, trimmed: str) -> None:
        self._clock = ctx.machine
        self._broker = ctx.broker
        self._identity = ctx.identity
        self._written = 0
        self._read = trimmed
        self._rings: dict[tuple[int, int], int] = {}
        self._next_word = 0.0
        self.caught_up = False
        self.trimmed = trimmed

    def forget(self, position: str) -> None:
        """The campaign is being written again, and its log with it."""
        self.caught_up = False
        self._written = 0
        self.trimmed = self._read = position

    def take_caught_up(self) -> bool:
        """Whether the log was read to its end since the last call."""
        caught_up, self.caught_up = self.caught_up, False
        return caught_up

    def look(self, state: CampaignState, written: int) -> None:
        """Compare the log with what is known of it.

        Args:
            state: up to date with what was read.
            written: the last event that was committed.

        Raises:
            LostData: entries that were read, or events that were written, are gone.
            BrokerUnavailable: unknown.
        """
        for position in {self._read, state.position}:  # that of the last look too: others may have come since a loss
            trimmed = order(position) <= order(self.trimmed)  # by us
            if not trimmed and not self._broker.has_entry(position):
                raise LostData(self._identity.campaign, OLDER)
        if self.caught_up and state.sequence < self._written:
            raise LostData(self._identity.campaign, "has lost events that were written to the campaign's log")
        self._written, self._read = written, state.position

    def look_at_rung(self, rung: Sequence[OpenTask], state: CampaignState) -> None:
        """Look whether tasks that are rung again can be claimed at all; say so where they can, and nobody does.

        Raises:
            LostData: their rows, or the newest version's, are gone.
            BrokerUnavailable: unknown.
        """
        rows = [
            OpenRow(self._identity.task_id(task.number), task.attempt, task.issued_ms, task.queue)
            for task in rung[:MAX_VERIFIED]
        ]
        if not self._broker.can_be_claimed(rows):
            raise LostData(self._identity.campaign, "has lost rows of open tasks, or the newest version")
        still = state.ledger.open
        rings = {key: n for key, n in self._rings.items() if key[0] in still and still[key[0]].attempt == key[1]}
        self._rings = rings | {(t.number, t.attempt): rings.get((t.number, t.attempt), 0) + 1 for t in rung}
        many = sum(count >= MANY_RINGS for count in self._rings.values())
        if many and self._clock.monotonic() >= self._next_word:
            self._next_word = self._clock.monotonic() + WORD_SECONDS
            log.warning(
                "tasks are rung for again and again, and nobody claims them",
                campaign=self._identity.campaign, tasks=many, queues=sorted({task.queue for task in rung}),
                remedy="see the workers' logs: something takes their messages and drops them",
            )  # fmt: skip
