"""The update of an earlier life that is on its way now: said in one thread, looked at in another."""

from __future__ import annotations

import time

from fl_core.errors import TrainingStopped


class Kept:
    """What ``Pulse`` is for the child's own transfers.

    Attributes:
        holding: the task; empty while none is on its way.
        moved_at: when bytes moved last (``time.monotonic``).
    """

    def __init__(self) -> None:
        self.holding = ""
        self.moved_at = 0.0
        self._recalled = ""

    def note_moved(self) -> None:
        """Bytes have moved now.

        Raises:
            TrainingStopped: nobody waits for them any more.
        """
        self.moved_at = time.monotonic()
        if self._recalled == self.holding:
            raise TrainingStopped

    def recall(self, holding: str) -> None:
        """Nobody waits for it any more."""
        self._recalled = holding
