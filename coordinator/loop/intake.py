"""The log's entries, taken in one after the other: read, applied, and passed to the listeners."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from coordinator.campaign.effects import Effects
from coordinator.campaign.state import CampaignState
from coordinator.loop.listeners import Listener, Timer
from coordinator.loop.outages import Outages
from coordinator.outgoing.context import Context
from coordinator.outgoing.payloads import WORTH_A_THREAD_BYTES, Payloads
from fl_core.broker.lease import LostData
from fl_core.broker.log import LogReader
from fl_core.wire.log_entry import LogEntry


class Intake:
    """Feeds the state.

    Args:
        ctx, state: the campaign's.
        payloads: reads ahead what the next entries will ask for.
        outages: entries whose payload cannot be read wait for the broker.
        listeners: passed each entry that was applied, in this order.
        timers: passed each that was applied for the first time.
    """

    def __init__(
        self,
        ctx: Context,
        state: CampaignState,
        payloads: Payloads,
        outages: Outages,
        listeners: Sequence[Listener],
        timers: Sequence[Timer],
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._payloads = payloads
        self._listeners = listeners
        self._timers = timers
        self._outages = outages
        self._reader = LogReader(ctx.client, ctx.keys, state.position, state.control_position, ctx.writer)

    def read(self, *, wait_ms: int) -> tuple[list[LogEntry], list[tuple[str, dict[bytes, bytes]]]]:
        """The next entries of the log, and operators' requests.

        Args:
            wait_ms: for so long at most, where there are none.

        Raises:
            BrokerUnavailable: nothing was read; ask again.
            FencedOut, LostData: another coordinator has taken over, or the server has lost data.
        """
        return self._reader.read(wait_ms=wait_ms, max_entries=self._ctx.cadence.read_entries)

    @property
    def at_end(self) -> bool:
        """All that devices had sent when it was read last has been read."""
        return self._reader.at_end

    def take(self, entries: Sequence[LogEntry]) -> Iterator[Effects]:
        """Apply entries for the first time, one at each step."""
        machine = self._ctx.machine
        for index, entry in enumerate(entries):
            started = machine.monotonic()
            self._read_ahead(entries[index : index + 2])
            effects = self._apply(entry)
            seconds = machine.monotonic() - started
            for timer in self._timers:
                timer.applied_first(effects, seconds, self._ctx.clock.now_ms())
            yield effects

    def replay(self) -> int:
        """Apply what the log holds behind the state, as after a crash, and say how many entries those were."""
        self._reader.position = self._state.position
        self._reader.control_position = self._state.control_position
        before = self._state.num_entries
        while entries := self.read(wait_ms=0)[0]:
            for entry in entries:
                self._apply(entry)
        # Requests are read again by the first turn: they become events there.
        self._reader.control_position = self._state.control_position
        return self._state.num_entries - before

    def look_ahead(self) -> None:
        """Begin to read the payload of the entry that comes next, if it is there already."""
        if self._ctx.layout.num_bytes < WORTH_A_THREAD_BYTES:
            return
        with contextlib.suppress(LostData):  # the next read finds out, where that can be mended
            if (waiting := self._reader.peek()) is not None:
                self._read_ahead([waiting])

    def _read_ahead(self, entries: Sequence[LogEntry]) -> None:
        if self._ctx.layout.num_bytes >= WORTH_A_THREAD_BYTES:
            self._payloads.expect(*map(self._state.announced, entries))

    def _apply(self, entry: LogEntry) -> Effects:
        effects = self._outages.through(lambda: self._state.apply(entry))
        for listener in self._listeners:
            listener.applied(entry, effects)
        return effects
