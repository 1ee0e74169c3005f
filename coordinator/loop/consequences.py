"""What applying an entry of the log means outside: at the broker, in the history, for monitors and in the log."""

from __future__ import annotations

import structlog

from coordinator.campaign.admission import Admitted, Refused
from coordinator.campaign.effects import Effects
from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from coordinator.outgoing.payloads import Payloads
from coordinator.outgoing.transaction import Transaction
from coordinator.storage.journal import Journal
from coordinator.storage.saver import Saver
from coordinator.telemetry.feed import Feed
from coordinator.telemetry.spans import Traces
from coordinator.telemetry.status import StatusBoard
from coordinator.telemetry.timing import Timing
from fl_core.broker.overview.quarantine import Parked
from fl_core.wire.history import RollbackLine
from fl_core.wire.log_entry import LogEntry

log = structlog.get_logger()


class Consequences:
    """Carries each entry's effects to everybody whom they concern.

    Args:
        ctx, state, timing: the campaign's.
        transaction, saver, journal, feed, board, payloads: who is told.
        traces: where the tasks' spans go; None for nowhere.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        timing: Timing,
        transaction: Transaction,
        saver: Saver,
        journal: Journal,
        feed: Feed,
        board: StatusBoard,
        payloads: Payloads,
        traces: Traces | None,
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._timing = timing
        self._transaction = transaction
        self._saver = saver
        self._journal = journal
        self._feed = feed
        self._board = board
        self._payloads = payloads
        self._traces = traces
        self._log = log.bind(campaign=ctx.identity.campaign)

    def carry(self, entry: LogEntry, effects: Effects) -> None:
        """All that follows from an entry, whether it is new or applied again after a crash."""
        self._saver.note(entry, effects.blob)
        self._journal.note(entry, effects.history)
        if effects.closed:
            self._transaction.close(effects.closed)
        if effects.reopened:
            self._transaction.open(effects.reopened)
            self._transaction.ring(effects.reopened)
        if effects.history:
            self._feed.add(entry.position, effects.history)
        for refused in effects.refusals if self._state.accepts else ():
            self._transaction.add(self._ctx.broker.quarantine.park_commands(parked_of(refused, entry)))
        if effects.lost_payload is not None:
            self._payloads.note_lost(effects.lost_payload)
        self._board.note_merges(effects.merges)
        self._tell(effects)

    def time(self, entry: LogEntry, effects: Effects, seconds: float) -> None:
        """Account for an entry that was applied for the first time.

        Args:
            seconds: what applying it took.
        """
        if effects.admitted is not None:
            self._time_update(entry, effects.admitted, seconds)
        if self._traces is not None:
            self._traces.applied(self._state.timeline.moment(entry), effects, seconds, self._ctx.clock.now_ms())

    def _time_update(self, entry: LogEntry, admitted: Admitted, merge_seconds: float) -> None:
        update = admitted.update
        self._feed.add_training(update.worker, update.seconds.get("train", 0.0))
        self._timing.add_update(
            update.seconds,
            life_seconds=(self._state.timeline.moment(entry) - admitted.task.issued_ms) / 1000,
            log_seconds=(self._ctx.clock.now_ms() - self._state.timeline.moment(entry)) / 1000 - merge_seconds,
            merge_seconds=merge_seconds,
            num_bytes=update.payload_bytes,
        )

    def _tell(self, effects: Effects) -> None:
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
            # What comes after the end was overtaken by it; that is no fault of anybody.
            tell = self._log.warning if self._state.accepts else self._log.debug
            tell(
                "update rejected",
                reason=refused.reason.value,
                detail=refused.detail,
                worker=known.worker if known else None,
                task=known.task_id if known else None,
            )
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
        worker=update.worker if update else "",
        task=refused.task.number if refused.task else None,
        header=entry.header,
        payload=entry.payload,
        payload_bytes=update.payload_bytes if update else len(entry.payload),
        milliseconds=entry.milliseconds,
    )
