"""When a checkpoint is written and what stands in it, and which part of the log may go because of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from coordinator.campaign.effects import Effects
from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from coordinator.outgoing.payloads import Payloads
from coordinator.outgoing.stalls import Stalls
from coordinator.outgoing.transaction import Transaction
from coordinator.storage.journal import Journal
from coordinator.storage.saver import Saver, max_log_bytes
from fl_core.broker.log import scan
from fl_core.errors import BrokerUnavailable, CampaignError
from fl_core.program.crash_points import crash_point
from fl_core.wire.log_entry import LogEntry, order


class Checkpoints:
    """The campaign's.

    Args:
        ctx, state, journal: the campaign's.
        saver: makes them durable.
        about: what else each of them tells a resume (``coordinator/launch/lives.py``).
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        journal: Journal,
        saver: Saver,
        about: Mapping[str, Any],
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._journal = journal
        self._saver = saver
        self._about = dict(about)
        self._log_bytes = max_log_bytes(ctx.spec.checkpoint, ctx.layout)
        self._covered_noted = False

    # -- writing ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the state down; making it durable goes on beside."""
        tensors, meta = self._state.export()
        identity = self._ctx.identity
        whole = {
            "state": meta,
            "identity": [identity.campaign, identity.secret, identity.incarnation, identity.created_ms],
            "spec": self._ctx.spec.model_dump(mode="json"),
            "layout": self._ctx.layout.to_map(),
            "commits": self._ctx.writer.commits,
            **self._about,
            **self._journal.export(),
        }
        position, merged = self._state.position, self._state.ledger.merged
        self._saver.save(tensors, whole, position, merged, before=self._journal.sync)

    def save_first(self) -> None:
        """Write the first checkpoint before anything is published: from then on the campaign can be resumed.

        Raises:
            CampaignError: it cannot be written.
        """
        self.save()
        self._saver.wait()
        if self._saver.failure is not None:
            raise CampaignError(self._saver.failure)

    def save_last(self, interrupted: threading.Event) -> None:
        """Nothing is dropped before the last one is durable, and a full disk is given a little time.

        Raises:
            CampaignError: it cannot be written, or its writing was interrupted.
        """
        machine, cadence = self._ctx.machine, self._ctx.cadence
        deadline = machine.monotonic() + cadence.full_disk_seconds
        while True:
            self.save()
            self._saver.wait()
            if self._saver.failure is None:
                if self._state.privacy is not None and self._state.phase.is_over:
                    self._saver.drop_earlier()  # those before it hold the noise's secret, and sums without noise
                return
            if machine.wait(cadence.full_disk_pause_seconds, interrupted) or machine.monotonic() > deadline:
                raise CampaignError(f"{self._saver.failure} Nothing is lost; go on with --resume then.")

    def save_if_due(self) -> None:
        """Write one where a limit of ``checkpoint`` is reached."""
        limits = self._ctx.spec.checkpoint
        if self._saver.is_due(limits.every_merges, limits.every_seconds, self._log_bytes, self._state.ledger.merged):
            self.save()

    def save_soon(self) -> None:
        """Make the next one due at once."""
        self._saver.save_soon()

    @property
    def are_stuck(self) -> bool:
        """They fail, and the update log has grown as far as it may without one."""
        return self._saver.is_stuck(self._log_bytes)

    @property
    def age_seconds(self) -> float:
        """Time since the newest whole one."""
        return self._saver.age_seconds

    def applied(self, entry: LogEntry, effects: Effects) -> None:
        """The next one covers this entry; what is written down of it stands beside it."""
        self._saver.note(entry, effects.blob)
        self._journal.note(entry, effects.history)

    # -- what they tell a resume -----------------------------------------------------------------------------------

    def note_server(self) -> None:
        """It may be another one, or have been restarted: what it has now it will have as long as it runs."""
        with contextlib.suppress(BrokerUnavailable):  # then a resume takes it for restarted, which is never wrong
            self._about["server"] = self._ctx.broker.server_run()

    @property
    def replaces(self) -> str:
        """The incarnation of the life before, until the broker knows this one; empty if there is none."""
        return str(self._about.get("replaces", ""))

    def forget_life_before(self) -> None:
        """The broker knows this one."""
        self._about.pop("replaces", None)

    # -- what of the log may go ------------------------------------------------------------------------------------

    def note_covered(self) -> None:
        """Learn what the log still holds of entries that the checkpoint covers: they and their payloads are to go."""
        if self._covered_noted:
            return
        until, entries = order(self._state.position), scan(self._ctx.client, self._ctx.keys)
        rows = [
            (entry.position, entry.num_bytes, self._state.blob_of(entry))
            for entry in takewhile(lambda entry: order(entry.position) <= until, entries)
        ]
        for row in rows:
            self._saver.note_covered(*row)
        self._covered_noted = True

    def trim(self, payloads: Payloads, stalls: Stalls, transaction: Transaction) -> None:
        """Have everything dropped from the log that durable checkpoints have made superfluous."""
        covered = self._saver.take_covered(self._log_bytes)
        if covered is None:
            return
        crash_point("before_trim")
        stalls.trimmed = covered.position
        payloads.drop(covered.blobs, transaction)
        transaction.add_in_front(self._ctx.broker.trim_commands(covered.position))

    def all_blobs(self) -> list[tuple[str, int]]:
        """The blobs of every entry that is still in the log."""
        return self._saver.all_blobs()

    def close(self) -> None:
        """Let one that is being written end."""
        self._saver.close()
