"""Listeners to the log: each applied entry is passed to all of them by one verb.

Beside those here there are ``Checkpoints``, which cover the entry, and ``Monitors``, which show it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import structlog

from coordinator.campaign.effects import Effects, Refused
from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from coordinator.outgoing.payloads import Payloads
from coordinator.outgoing.transaction import Transaction
from fl_core.broker.overview.quarantine import Parked
from fl_core.errors import Reason
from fl_core.wire.history import RollbackLine
from fl_core.wire.log_entry import LogEntry

log = structlog.get_logger()


class Listener(Protocol):
    """Whom an entry concerns, whether it is new or applied again after a crash."""

    def applied(self, entry: LogEntry, effects: Effects) -> None:
        """The state has taken the entry in.

        Args:
            effects: what that means outside.
        """
        ...


class Timer(Protocol):
    """Who accounts for the time of entries that were applied for the first time."""

    def applied_first(self, effects: Effects, seconds: float, now_ms: int) -> None:
        """The state has taken the entry in.

        Args:
            effects: what that means outside.
            seconds: what it took.
            now_ms: campaign time.
        """
        ...


class Answers:
    """What the entry means for devices: tasks that are closed or open again, and updates that are parked or missing.

    Args:
        ctx, state: the campaign's.
        transaction, payloads: where it goes.
    """

    def __init__(self, ctx: Context, state: CampaignState, transaction: Transaction, payloads: Payloads) -> None:
        self._ctx = ctx
        self._state = state
        self._transaction = transaction
        self._payloads = payloads

    def applied(self, entry: LogEntry, effects: Effects) -> None:
        """Add it to the transaction."""
        if effects.closed:
            self._transaction.close(effects.closed)
        if effects.reopened:
            self._transaction.open(effects.reopened)
            self._transaction.ring(effects.reopened)
        for refused in effects.refusals if self._state.accepts else ():
            parked = parked_of(refused, entry)
            if self._state.privacy is not None:  # a raw update, and nothing is readmitted
                parked = replace(parked, payload=b"")
            self._transaction.add(self._ctx.broker.quarantine.park_commands(parked))
        if effects.lost_payload is not None:
            self._payloads.note_lost(effects.lost_payload)


class Console:
    """What people read in the coordinator's log.

    Args:
        ctx, state: the campaign's.
    """

    def __init__(self, ctx: Context, state: CampaignState) -> None:
        self._state = state
        self._log = log.bind(campaign=ctx.identity.campaign)

    def applied(self, entry: LogEntry, effects: Effects) -> None:
        """Say what somebody may have to act on."""
        for line in effects.history:
            if isinstance(line, RollbackLine):
                self._log.warning(
                    "the model has diverged; going back",
                    good_version=line.good_version,
                    version=line.version,
                    rate_factor=line.rate_factor,
                )
        for refused in effects.refusals:
            known = refused.update
            # What comes after the end was overtaken by it, and a device that rests was quick: nobody's fault.
            expected = not self._state.accepts or refused.reason in (Reason.RESTING, Reason.BUDGET_SPENT)
            tell = self._log.debug if expected else self._log.warning
            tell(
                "update rejected",
                reason=refused.reason.value,
                detail=refused.detail,
                worker=known.worker if known else None,
                task=known.task_id if known else None,
            )
        if effects.unopened:
            self._log.warning("a sum of masked updates", said=effects.unopened)
        if effects.fruitless:
            self._log.warning("nothing comes of it", why=effects.fruitless)
        if effects.failure is not None:
            report = effects.failure
            self._log.warning("training failed", worker=report.worker, task=report.task_id, detail=report.detail)
        if effects.handed_back is not None:
            report = effects.handed_back
            self._log.info("task handed back", worker=report.worker, task=report.task_id, detail=report.detail)


def parked_of(refused: Refused, entry: LogEntry) -> Parked:
    """What is kept of a rejected update for inspection."""
    update = refused.update
    return Parked(
        reason=refused.reason.value,
        detail=refused.detail,
        worker=update.worker if update else refused.signer,
        task=refused.task.number if refused.task else None,
        header=entry.header,
        payload=entry.payload,
        payload_bytes=update.payload_bytes if update else len(entry.payload),
        milliseconds=entry.milliseconds,
    )
