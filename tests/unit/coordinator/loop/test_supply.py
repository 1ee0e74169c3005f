"""What goes out: the newest version once, the order where it changed, and as many tasks as there is room for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from coordinator.loop.spending import Spending
from coordinator.loop.supply import Supply
from coordinator.outgoing.dispatcher import Dispatcher
from coordinator.outgoing.orders import Orders
from coordinator.outgoing.sealing import Sealing
from tests.unit.coordinator.stand_ins import Events, context


class Publishing:
    """Stands for the publisher.

    Attributes:
        calls: what it was asked to do.
    """

    def __init__(self) -> None:
        self.published, self.head, self.is_crowded = -1, None, False
        self.astray = False
        self.calls: list[str] = []

    def publish(self, strategy: Any, transaction: Any, *, exact: bool = False) -> None:
        self.published = strategy.version
        self.calls.append("publish exactly" if exact else "publish")

    def drop_old(self, transaction: Any, kept: int = 3) -> None:
        self.calls.append(f"drop all but {kept}")

    def drop_all(self) -> None:
        self.calls.append("drop all")

    def look(self) -> None:
        self.calls.append("look")

    def is_led_astray(self, order: Any, sealed: bytes) -> bool:
        return self.astray


def _supply(campaign: Any) -> tuple[Supply, Publishing, Events]:
    ctx, publisher, events = context(dispatch={"concurrency": 6}), Publishing(), Events()
    sealing = Sealing(ctx)
    orders, dispatcher = Orders(ctx, "delta", sealing), Dispatcher(ctx.spec.dispatch, ctx.identity, ctx.machine)
    publishing: Any = publisher
    transaction: Any = events
    spending = Spending(ctx, campaign.state, None, transaction, threading.Event())
    return Supply(campaign.state, publishing, orders, dispatcher, transaction, spending, sealing), publisher, events


def test_a_version_is_published_once(bench: Callable[..., Any]) -> None:
    """The model has moved on, or has not; many versions between two looks are dropped at once."""
    campaign = bench(aggregation={"buffer_size": 1}).open(2)
    supply, publisher, _ = _supply(campaign)
    assert supply.is_behind
    supply.publish()
    assert (supply.is_behind, supply.published) == (False, 0)
    campaign.apply(campaign.update(1))
    publisher.is_crowded = True
    assert supply.is_behind
    supply.publish()
    assert publisher.calls == ["publish", "publish", "drop all but 3"]


def test_tasks_fill_the_room_that_is_left(bench: Callable[..., Any]) -> None:
    """What was written and not read back yet counts."""
    campaign = bench(dispatch={"concurrency": 6}).open(2)
    supply, _, events = _supply(campaign)
    events.issued = campaign.state.ledger.issued + 1
    supply.issue()
    assert [event.to_map()["queues"] for event in events.appended] == [["default"] * 3]
    supply.issue()
    assert len(events.appended) == 1


def test_the_order_is_written_again_where_somebody_has_changed_it(bench: Callable[..., Any]) -> None:
    """Else once."""
    supply, publisher, events = _supply(bench().open(1))
    supply.order()
    written = len(events.commands)
    supply.order()
    supply.look()
    supply.order()
    assert len(events.commands) == written > 0
    publisher.astray = True
    supply.look()
    supply.order()
    assert len(events.commands) == 2 * written


def test_at_the_end_nothing_is_kept(bench: Callable[..., Any]) -> None:
    """The last version was published to the last bit before."""
    supply, publisher, _ = _supply(bench().open(1))
    supply.publish_exactly()
    supply.drop_everything()
    assert publisher.calls == ["publish exactly", "drop all but 0", "drop all"]
