"""Campaign time: the server's clock as of the launch, and from then on without its jumps.

A campaign's times are those of its log, whose positions are the server's clock. That clock may be set, forward or
back, or start elsewhere after a restart; positions never go back, so they stand still until a clock that was set back
has come as far again. This machine's monotonic clock does neither. So the coordinator goes by it between two looks at
the server and does not follow a jump. Where the log's time has come away from it, the coordinator writes the
difference into the log as an event: the fold adds it, and looks at no clock itself.

=================  ====================================================================================================
time               what it is good for
=================  ====================================================================================================
campaign time      stop conditions, patience, the history's seconds: ``now_ms`` here, ``moment`` of the state
server time        what the server stamps itself: claims, beats, messages. Good for display; the ages of what was
                   stamped before a jump are wrong, so decisions go by what was seen when (``claims.py``)
monotonic time     everything within one process
=================  ====================================================================================================

A jump while no coordinator lives looks like time that has passed, and so does a suspended machine's sleep
where server and coordinator sleep together: the former counts as campaign time, the latter does not.
"""

from __future__ import annotations

import structlog

from fl_core.broker.campaign import CampaignBroker
from fl_core.clock import MACHINE, Clock

# No clock is adjusted by more than this within a second without having been set.
JUMP_MS = 2000.0
# An answer that took longer says too little of what the time is.
MAX_WAIT_MS = 1000.0
# So far may the log's time be from campaign time before it is corrected.
TOLERANCE_MS = 5000.0

log = structlog.get_logger()


class CampaignClock:
    """The clock that a coordinator goes by.

    Args:
        broker: has the server's clock.
        machine: this machine's clock.

    Attributes:
        machine: as above, for what happens within this process.
    """

    def __init__(self, broker: CampaignBroker, machine: Clock = MACHINE) -> None:
        self._broker = broker
        self.machine = machine
        self._server_offset: float | None = None
        self._offset = 0.0
        self._has_begun = False

    def begin(self, shift_ms: int, position_ms: int) -> None:
        """Go on from where the log says that the campaign is; a clock that runs already goes on by itself.

        Args:
            shift_ms: what the log has corrected so far.
            position_ms: of its newest entry that is known.

        Raises:
            BrokerUnavailable: begin again.
        """
        if self._has_begun:
            return
        self.read()
        self._has_begun = True
        self._offset = max(self.server_ms(), position_ms) + shift_ms - self._monotonic_ms()

    def read(self) -> bool:
        """Look at the server's clock, and say whether it has jumped since the last look.

        Raises:
            BrokerUnavailable: it goes on as of the last look.
        """
        before = self._monotonic_ms()
        server = self._broker.clock_ms()
        after = self._monotonic_ms()
        offset = server - (before + after) / 2
        if self._server_offset is None:
            self._server_offset = offset
            return False
        if after - before > MAX_WAIT_MS:
            return False
        step, self._server_offset = offset - self._server_offset, offset
        if abs(step) <= JUMP_MS:
            self._offset += step
            return False
        log.warning("the server's clock was set; the campaign's time goes on as before", by_seconds=round(step / 1000))
        return True

    def now_ms(self) -> int:
        """Campaign time."""
        return round(self._monotonic_ms() + self._offset)

    def server_ms(self) -> int:
        """The server's clock, as of the last look."""
        return round(self._monotonic_ms() + (self._server_offset or 0.0))

    def on_server_ms(self, moment_ms: int) -> int:
        """What the server's clock, as it goes now, showed or would have shown at a moment of campaign time."""
        return moment_ms + self.server_ms() - self.now_ms()

    def correction_ms(self, shift_ms: int, position_ms: int) -> int | None:
        """The shift by which entries that are written now come out at campaign time; None if the present one does.

        Args:
            shift_ms: the present one.
            position_ms: of the newest entry; the next one is not before it.
        """
        shift = self.now_ms() - max(self.server_ms(), position_ms)
        return shift if abs(shift - shift_ms) > TOLERANCE_MS else None

    def _monotonic_ms(self) -> float:
        return self.machine.monotonic() * 1000
