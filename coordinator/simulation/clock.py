"""The clock of a simulation: the twin's, for the server and for the machine at once."""

from __future__ import annotations

import threading

from fl_core.broker.memory.keyspace import Keyspace
from fl_core.clock import Clock


class VirtualClock(Clock):
    """Stands still while anything is computed.

    Args:
        keyspace: whose clock it is.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace

    def monotonic(self) -> float:
        """Seconds of virtual time."""
        return self._keyspace.now_ms / 1000

    def wall_ms(self) -> int:
        """The twin's clock."""
        return int(self._keyspace.now_ms)

    def wait(self, seconds: float, until: threading.Event | None = None) -> bool:
        """Let virtual time pass; nobody else does anything meanwhile."""
        if until is not None and until.is_set():
            return True
        self._keyspace.now_ms += 1000 * seconds
        return False
