"""The order: how a campaign's tasks are to be done, written once at the broker and again where it changes."""

from __future__ import annotations

from coordinator.outgoing.context import Context
from coordinator.outgoing.sealing import Sealing
from fl_core.broker.bulk.versions import order_commands
from fl_core.training.order import train_order
from fl_core.training.schedule import plateau_factor
from fl_core.wire.messages import TrainOrder


class Orders:
    """Knows what is written; a worker has the order from its claim, and keeps it by its digest.

    Args:
        ctx: the campaign.
        sends: what devices send back.
        sealing: signs orders.
        constants_digest: of what no version carries (``constants_digest`` of ``fl_core/vectors/agreement.py``).
    """

    def __init__(self, ctx: Context, sends: str, sealing: Sealing, constants_digest: str = "") -> None:
        self._ctx = ctx
        self._sealing = sealing
        self._sends = sends
        self._constants_digest = constants_digest
        self._written: int | None = None
        self._packed = b""

    def forget(self) -> None:
        """It is not known what is written."""
        self._written = None

    @property
    def written(self) -> bytes | None:
        """What is written, as it travels; None where that is not known."""
        return None if self._written is None else self._packed

    def commands(self, num_plateaus: int) -> list[list[str | bytes]]:
        """The Redis commands that write the order, if it is not written yet.

        Args:
            num_plateaus: how often the campaign's learning rate was lowered.
        """
        if num_plateaus == self._written:
            return []
        self._written = num_plateaus
        self._packed = self._sealing.order(self.order(num_plateaus))
        return order_commands(self._ctx.keys, self._packed)

    def order(self, num_plateaus: int) -> TrainOrder:
        """The order as it stands after so many plateaus."""
        ctx = self._ctx
        factor = plateau_factor(ctx.spec.training, num_plateaus)
        return train_order(
            ctx.identity.campaign, ctx.spec, ctx.layout, self._sends, factor,
            constants_digest=self._constants_digest, incarnation=self._sealing.incarnation, keepers=ctx.keepers,
        )  # fmt: skip
