"""Writing for monitors: the status twice a second, the feed as it comes, who leads, and why a coordinator gave up."""

from __future__ import annotations

import contextlib

from coordinator.campaign.effects import Effects
from coordinator.campaign.state import CampaignState
from coordinator.campaign.summary import Summary
from coordinator.outgoing.context import Context
from coordinator.outgoing.lookout import Fleet
from coordinator.outgoing.transaction import Transaction
from coordinator.telemetry.feed import Feed
from coordinator.telemetry.status import StatusWriter
from coordinator.telemetry.timing import Timing
from fl_core.broker.log import START
from fl_core.broker.overview import feed as feed_rows
from fl_core.errors import FedtideError
from fl_core.wire.feed_lines import CoordinatorLine
from fl_core.wire.log_entry import LogEntry, order

# A position of the log that lies further ahead of the server's clock was not written by one.
FUTURE_MS = 3_600_000


class Monitors:
    """Tells them, by what it adds to the transaction.

    Args:
        ctx, state: the campaign's.
        status, feed, timing: what is written for them.
        transaction: where it goes.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        status: StatusWriter,
        feed: Feed,
        timing: Timing,
        transaction: Transaction,
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._status = status
        self._feed = feed
        self._timing = timing
        self._transaction = transaction
        self._next_status = 0.0

    def resume_timing(self) -> None:
        """Go on counting where an earlier coordinator stood.

        Raises:
            BrokerUnavailable: unknown.
        """
        self._timing.restore(self._ctx.broker.status().timing)

    def resume_feed(self) -> None:
        """Learn what an earlier coordinator has written.

        Raises:
            BrokerUnavailable: learn it later.
        """
        covered = feed_rows.covered_position(self._ctx.client, self._ctx.keys)
        latest = max(self._ctx.clock.server_ms(), order(self._state.position)[0]) + FUTURE_MS
        self._feed.resume_after(covered if order(covered)[0] <= latest else START)

    def summarise(self) -> Summary:
        """The whole summary as of now."""
        return self._status.summarise()

    def tell_who_leads(self) -> None:
        """This coordinator has launched, resumed or taken over the campaign."""
        timeline, writer = self._state.timeline, self._ctx.writer
        seconds = timeline.seconds(self._ctx.clock.now_ms()) if timeline.opened_ms else 0.0
        event = "took_over" if writer.predecessor else "resumed" if self._state.sequence else "launched"
        led_before = writer.predecessor or None
        self._feed.tell(
            CoordinatorLine(
                seconds=seconds, event=event, holder=writer.token, fence=writer.fence, predecessor=led_before
            )
        )
        writer.predecessor = ""

    def note_fleet(self, fleet: Fleet, *, named: bool) -> None:
        """Who lives was seen just now.

        Args:
            named: it can be said who has come and who has left: nobody's beat is old for another reason.
        """
        self._status.live_workers = fleet.num_live
        timeline = self._state.timeline
        if named and timeline.opened_ms and fleet.present is not None:
            self._feed.note_workers(fleet.present, timeline.seconds(self._ctx.clock.now_ms()))

    def note_keepers(self, waits_for: str) -> None:
        """The keepers without whom nothing is merged, in words."""
        self._status.keepers = waits_for

    def note_claimed(self, count: int) -> None:
        """So many open tasks are in a worker's hands."""
        self._status.claimed = count

    def applied(self, entry: LogEntry, effects: Effects) -> None:
        """The lines of the history, and the rate of merges."""
        if effects.history:
            self._feed.add(entry.position, effects.history)
        self._status.note_merges(effects.merges)

    def applied_first(self, effects: Effects, seconds: float, now_ms: int) -> None:
        """Where the time of an update has gone."""
        if effects.admitted is None:
            return
        update, task = effects.admitted.update, effects.admitted.task
        self._feed.add_training(update.worker, update.seconds.get("train", 0.0))
        self._timing.add_update(
            update.seconds,
            life_seconds=(effects.moment_ms - task.issued_ms) / 1000,
            log_seconds=(now_ms - effects.moment_ms) / 1000 - seconds,
            merge_seconds=seconds,
            num_bytes=update.payload_bytes,
        )

    def tell(self, checkpoint_age_seconds: float) -> None:
        """The feed's news, and the status where it is time for one."""
        now = self._ctx.machine.monotonic()
        if now >= self._next_status:
            self._next_status = now + self._ctx.cadence.status_seconds
            self._write_status(checkpoint_age_seconds)
        self._write_feed()

    def tell_all(self, checkpoint_age_seconds: float) -> None:
        """Everything, without waiting for its time: the end has come."""
        self._write_feed(flush=True)
        self._write_status(checkpoint_age_seconds)

    def tell_of_failure(self, error: FedtideError, checkpoint_age_seconds: float) -> None:
        """Otherwise they show what was true before, for good. The error itself is reported in any case."""
        with contextlib.suppress(Exception):
            status = self._status.write(checkpoint_age_seconds, failure=str(error))
            self._ctx.writer.commit(self._ctx.identity.incarnation, self._ctx.broker.status_commands(status))

    def _write_status(self, checkpoint_age_seconds: float) -> None:
        self._transaction.add(self._ctx.broker.status_commands(self._status.write(checkpoint_age_seconds)))

    def _write_feed(self, *, flush: bool = False) -> None:
        timeline = self._state.timeline
        if timeline.opened_ms:
            seconds = timeline.seconds(self._ctx.clock.now_ms())
            commands = self._feed.commands(self._ctx.writer.fence, self._state.position, seconds, flush=flush)
            self._transaction.add(commands)
