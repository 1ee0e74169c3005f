"""The order: how a campaign's tasks are to be done, written once at the broker and again where it changes."""

from __future__ import annotations

from coordinator.outgoing.context import Context
from fl_core.broker.bulk.versions import order_commands
from fl_core.training.order import train_order
from fl_core.training.schedule import plateau_factor
from fl_core.wire.messages import TrainOrder


class Orders:
    """Knows what is written; a worker has the order from its claim, and keeps it by its digest.

    Args:
        ctx: the campaign.
        sends: what devices send back.
        constants_digest: of what no version carries (``constants_digest`` of ``fl_core/vectors/agreement.py``).
    """

    def __init__(self, ctx: Context, sends: str, constants_digest: str = "") -> None:
        self._ctx = ctx
        self._sends = sends
        self._constants_digest = constants_digest
        self._written: int | None = None

    def forget(self) -> None:
        """It is not known what is written."""
        self._written = None

    @property
    def written(self) -> TrainOrder | None:
        """What is written; None where that is not known."""
        return None if self._written is None else self.order(self._written)

    def commands(self, num_plateaus: int) -> list[list[str | bytes]]:
        """The Redis commands that write the order, if it is not written yet.

        Args:
            num_plateaus: how often the campaign's learning rate was lowered.
        """
        if num_plateaus == self._written:
            return []
        self._written = num_plateaus
        return order_commands(self._ctx.keys, self.order(num_plateaus))

    def order(self, num_plateaus: int) -> TrainOrder:
        """The order as it stands after so many plateaus."""
        ctx = self._ctx
        factor = plateau_factor(ctx.spec.training, num_plateaus)
        return train_order(
            ctx.identity.campaign, ctx.spec, ctx.layout, self._sends, factor, constants_digest=self._constants_digest
        )
