"""The supply of devices: the newest version, the order that says how to train, and tasks."""

from __future__ import annotations

from coordinator.campaign.state import CampaignState
from coordinator.loop.spending import Spending
from coordinator.outgoing.dispatcher import Dispatcher
from coordinator.outgoing.orders import Orders
from coordinator.outgoing.publisher import Publisher
from coordinator.outgoing.sealing import Sealing
from coordinator.outgoing.transaction import Transaction
from fl_core.broker.bulk.head import Head


class Supply:
    """Puts them into the transaction.

    Args:
        state: the campaign's.
        publisher, orders, dispatcher: of versions, of the order, of tasks.
        transaction: where they go.
        spending: is written down before a version is shown.
        sealing: signs the pointer.
    """

    def __init__(
        self,
        state: CampaignState,
        publisher: Publisher,
        orders: Orders,
        dispatcher: Dispatcher,
        transaction: Transaction,
        spending: Spending,
        sealing: Sealing,
    ) -> None:
        self._state = state
        self._publisher = publisher
        self._orders = orders
        self._dispatcher = dispatcher
        self._transaction = transaction
        self._spending = spending
        self._sealing = sealing

    @property
    def published(self) -> int:
        """The newest version that can be fetched; -1 before the first."""
        return self._publisher.published

    @property
    def head(self) -> Head | None:
        """Where that lies; None before the first."""
        return self._publisher.head

    @property
    def is_behind(self) -> bool:
        """The model has moved on since the last publication."""
        return self._state.strategy.version != self._publisher.published

    def publish(self) -> None:
        """Publish the newest version, and drop old ones where many have come.

        Raises:
            BrokerUnavailable: publish again.
        """
        self._spending.make_durable()
        self._publisher.publish(self._state.strategy, self._transaction)
        self._seal()
        if self._publisher.is_crowded:
            self._publisher.drop_old(self._transaction)

    def publish_exactly(self) -> None:
        """Publish the newest version to the last bit, also where devices get patches: it is the last one."""
        self._spending.make_durable()
        self._publisher.publish(self._state.strategy, self._transaction, exact=True)
        self._seal()

    def begin(self) -> None:
        """Publish version and order, whatever the broker may hold."""
        self._spending.make_durable()
        self._publisher.publish(self._state.strategy, self._transaction)
        self._orders.forget()
        self.order()

    def order(self) -> None:
        """Write the order, if it has changed."""
        if commands := self._orders.commands(self._state.evaluations.num_plateaus):
            self._transaction.add(commands)
            self._seal()

    def _seal(self) -> None:
        """Version and order are signed together: whichever of them is new."""
        self._transaction.add(self._sealing.pointer_commands(self._publisher.head, self._orders.written))

    def issue(self) -> None:
        """Put as many tasks out as there is room for."""
        state, transaction = self._state, self._transaction
        pending = transaction.issued - state.ledger.issued
        if queues := self._dispatcher.plan(state.ledger, pending=pending, barrier=state.strategy.barrier):
            transaction.issue(queues)

    def look(self) -> None:
        """See whether devices can still fetch what was published; what they cannot is published again."""
        self._publisher.look()
        if self._publisher.is_led_astray(self._orders.written, self._sealing.sealed):
            self._orders.forget()
        self._publisher.drop_old(self._transaction)

    def sweep(self) -> None:
        """Drop the bytes of versions that an earlier coordinator wrote and never pointed to."""
        self._publisher.sweep()

    def drop_everything(self) -> None:
        """The campaign is over."""
        self._publisher.drop_old(self._transaction, kept=0)
        self._publisher.drop_all()
