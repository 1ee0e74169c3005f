"""What devices have spent of their privacy budgets is on disk before a version is shown, and outlives this process."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from coordinator.campaign.effects import Effects
from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from coordinator.storage.spend_journal import SpendJournal
from fl_core.errors import CampaignError
from fl_core.program.crash_points import crash_point
from fl_core.wire.log_entry import LogEntry

log = structlog.get_logger()


class Spending:
    """The spend journal of a campaign at work; does nothing in one whose coordinator adds no noise.

    Args:
        ctx, state: the campaign's.
        journal: its own.
        interrupted: ends the patience with a full disk.
    """

    def __init__(
        self, ctx: Context, state: CampaignState, journal: SpendJournal | None, interrupted: threading.Event
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._journal = journal
        self._interrupted = interrupted

    def applied(self, entry: LogEntry, effects: Effects) -> None:
        """A merge was made, and nobody has seen it yet."""
        if self._journal is not None:
            self._journal.note(effects.spends)

    def make_durable(self) -> None:
        """What was made so far may be shown afterwards. A full disk is given a little time.

        Raises:
            CampaignError: nothing may be shown.
        """
        if self._journal is None:
            return
        machine, cadence = self._ctx.machine, self._ctx.cadence
        deadline = machine.monotonic() + cadence.full_disk_seconds
        while True:
            try:
                self._journal.sync()
                break
            except CampaignError as error:
                log.error("no version is published before the spend journal is written", reason=str(error))
                if machine.wait(cadence.full_disk_pause_seconds, self._interrupted) or machine.monotonic() > deadline:
                    raise
        crash_point("after_spend_journal")

    def charge_other_lives(self, save: Callable[[], None]) -> None:
        """Count releases that the log does not lead to any more, before another one is made.

        Args:
            save: writes a checkpoint; what is charged counts from then on, whatever becomes of the broker.

        Raises:
            CampaignError: the journal cannot be read, or the checkpoint not written.
        """
        if self._journal is None or not self._state.accepts:
            return
        if charged := self._state.charge(self._journal.read()):
            log.warning(
                "versions were published that the campaign's log no longer leads to; what devices have spent on them "
                "stays spent", campaign=self._ctx.identity.campaign, releases=charged,
            )  # fmt: skip
            save()
