"""What devices have spent of their privacy budgets: on disk before a version is shown, and at the broker for claims."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from coordinator.campaign.effects import Effects
from coordinator.campaign.private.privacy import Privacy
from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from coordinator.outgoing.transaction import Transaction
from coordinator.storage.spend_journal import SpendJournal
from fl_core.errors import CampaignError
from fl_core.program.crash_points import crash_point
from fl_core.wire.log_entry import LogEntry

SPENT = "spent"

log = structlog.get_logger()


class Spending:
    """The spend journal of a campaign at work; does nothing in one whose coordinator adds no noise.

    Args:
        ctx, state: the campaign's.
        journal: its own.
        transaction: where it is said who has to wait.
        interrupted: ends the patience with a full disk.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        journal: SpendJournal | None,
        transaction: Transaction,
        interrupted: threading.Event,
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._journal = journal
        self._transaction = transaction
        self._interrupted = interrupted
        self._told_of_delta = False

    def applied(self, entry: LogEntry, effects: Effects) -> None:
        """A merge was made, and nobody has seen it yet; or a device has to wait from now on."""
        privacy = self._state.privacy
        if self._journal is None or privacy is None:
            return
        self._journal.note(effects.spends)
        if effects.spends:
            self._compare_delta(privacy)
        rows: dict[str, str] = {}
        if effects.admitted is not None:
            worker = effects.admitted.update.worker
            rows[worker] = str(privacy.budgets.rests_until.get(worker, 0))
        for spend in effects.spends:
            rows |= dict.fromkeys(privacy.spent.intersection(spend.costs), SPENT)
        if rows:
            self._transaction.add(self._ctx.broker.rest_commands(rows))

    def _compare_delta(self, privacy: Privacy) -> None:
        """With a δ that is not far below 1 / devices, giving a whole device away could be within the promise."""
        budgets = privacy.budgets.filter
        devices = len(budgets.spent)
        if not self._told_of_delta and budgets.budget.delta * devices >= 1:
            self._told_of_delta = True
            log.warning(
                "privacy.delta is not below 1 / devices, so that it promises little", delta=budgets.budget.delta,
                devices=devices, campaign=self._ctx.identity.campaign,
            )  # fmt: skip

    def show(self) -> None:
        """Write down at the broker who has to wait, whatever it may hold: claims are answered by that."""
        privacy = self._state.privacy
        if privacy is None:
            return
        rows = {worker: str(until) for worker, until in privacy.resting(self._state.strategy.version).items()}
        broker = self._ctx.broker
        self._transaction.add(broker.rest_nobody_commands())
        self._transaction.add(broker.rest_commands(rows | dict.fromkeys(privacy.spent, SPENT)))

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
