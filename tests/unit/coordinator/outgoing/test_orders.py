"""The order is written once, and again only where it has changed or is not known to be there."""

from __future__ import annotations

from coordinator.outgoing.orders import Orders
from coordinator.outgoing.sealing import Sealing
from tests.unit.coordinator.stand_ins import context

DIGEST = "0" * 32
PLATEAU = {"schedule": "plateau", "schedule_period": 1, "schedule_factor": 0.5, "learning_rate": 0.5}


def test_it_is_written_when_it_changes() -> None:
    """A plateau lowers the learning rate that devices are told."""
    ctx = context(training=PLATEAU, evaluation={"data": "a:b"})
    orders = Orders(ctx, "delta", Sealing(ctx), DIGEST)
    assert orders.written is None
    assert [bool(orders.commands(plateaus)) for plateaus in (0, 0, 1, 1, 0)] == [True, False, True, False, True]
    assert orders.written == orders.order(0).to_bytes() != orders.order(1).to_bytes()
    assert (orders.order(0).sends, orders.order(0).constants_digest) == ("delta", DIGEST)


def test_it_is_written_again_where_it_is_not_known_to_be_there() -> None:
    """A server may have lost it."""
    ctx = context()
    orders = Orders(ctx, "delta", Sealing(ctx))
    first = orders.commands(0)
    orders.forget()
    assert orders.written is None
    assert orders.commands(0) == first
