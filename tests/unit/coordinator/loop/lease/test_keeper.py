"""The lease is renewed whatever happens in between, and its loss is seen."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from coordinator.loop.lease import keeper as keeper_module
from coordinator.loop.lease.keeper import LeaseKeeper
from fl_core.errors import BrokerUnavailable


class Renewing:
    """A writer whose renewals end as they are told to.

    Attributes:
        done: all of them were asked for.
    """

    def __init__(self, *outcomes: Any) -> None:
        self._outcomes = list(outcomes)
        self.done = threading.Event()

    def renew(self) -> bool:
        outcome = self._outcomes.pop(0) if self._outcomes else True
        if not self._outcomes:
            self.done.set()
        if isinstance(outcome, Exception):
            raise outcome
        return bool(outcome)


@pytest.mark.parametrize(("last", "fenced_out"), [(True, False), (False, True)])
def test_nothing_but_the_loss_of_the_lease_ends_it(
    monkeypatch: pytest.MonkeyPatch, last: bool, fenced_out: bool
) -> None:
    """Not a broker that is away, and not a fault of our own: the campaign would be lost with this thread."""
    monkeypatch.setattr(keeper_module, "LEASE_SECONDS", 0.003)
    writer: Any = Renewing(True, BrokerUnavailable("away"), ValueError("a fault"), True, last)
    keeper = LeaseKeeper(writer)
    keeper.start()
    assert writer.done.wait(10)
    keeper.stop()
    assert keeper.fenced_out == fenced_out
