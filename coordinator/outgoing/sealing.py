"""The coordinator's signature on what devices train by: the order, and the pointer to the newest version."""

from __future__ import annotations

from coordinator.campaign.identity import version_mac
from coordinator.outgoing.context import Context
from fl_core.broker.bulk.head import Head, Pointer
from fl_core.broker.bulk.versions import seal_commands
from fl_core.broker.lease import Command
from fl_core.identity.domain import Domain
from fl_core.wire.digest import Namer, digest, strong_digest
from fl_core.wire.messages import TrainOrder
from fl_core.wire.signed import order_digest


class Sealing:
    """Signs, where the campaign has an authority; else nothing is changed.

    Args:
        ctx: the campaign.

    Attributes:
        sealed: the pointer that was signed last; empty where none was.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.sealed = b""

    @property
    def name(self) -> Namer:
        """What tells versions from each other: it withstands attackers where it is signed."""
        return digest if self._ctx.seal is None else strong_digest

    @property
    def incarnation(self) -> str:
        """As orders tell it; empty where they are not signed."""
        return "" if self._ctx.seal is None else self._ctx.identity.incarnation

    def order(self, order: TrainOrder) -> bytes:
        """An order as it travels."""
        packed = order.to_bytes()
        return packed if self._ctx.seal is None else self._ctx.seal(Domain.ORDER, packed)

    def pointer_commands(self, head: Head | None, order: bytes | None) -> list[Command]:
        """The Redis commands that put the signed pointer beside the plain one.

        Args:
            head: the newest version.
            order: as it travels; None where it is not written yet.
        """
        if self._ctx.seal is None or head is None or order is None:
            return []
        identity = self._ctx.identity
        pointer = Pointer(
            campaign=identity.campaign, incarnation=identity.incarnation, fence=self._ctx.writer.fence,
            version_number=head.version, digest=head.digest, num_bytes=head.num_bytes, codec=head.codec,
            place=head.place, updates=head.updates, order=order_digest(order),
            mac=version_mac(identity.secret, identity.incarnation, head.version, head.digest),
        )  # fmt: skip
        self.sealed = self._ctx.seal(Domain.VERSION, pointer.to_bytes())
        return [*seal_commands(self._ctx.keys, self.sealed)]
