"""A simulation's clock: it moves where somebody waits, and nowhere else."""

from __future__ import annotations

import threading

from coordinator.simulation.clock import VirtualClock
from fl_core.broker.memory.client import MemoryServer


def test_the_clock_is_the_server_s() -> None:
    """Waiting moves it at once, unless what is waited for has come."""
    server = MemoryServer()
    clock, come = VirtualClock(server.keyspace), threading.Event()
    began = clock.monotonic()
    assert not clock.wait(90.0, come)
    assert (clock.monotonic() - began, clock.wall_ms()) == (90.0, int(server.keyspace.now_ms))
    come.set()
    assert clock.wait(90.0, come)
    assert clock.monotonic() - began == 90.0
