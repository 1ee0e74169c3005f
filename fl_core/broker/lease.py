"""One writer per campaign: a lease with a fencing token, and the one door through which a coordinator writes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgpack
import redis

from fl_core.broker import scripts
from fl_core.broker.connection import Client, Script, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.errors import CampaignError, FencedOut

Command = Sequence[str | bytes]


class LostData(CampaignError):
    """The server answers but no longer has this campaign's data."""


class Writer:
    """A coordinator's right to write one campaign.

    Attributes:
        token: names this holder, for people to read.
        fence: rises with every change of holder.
        predecessor: the holder that this one, a standby until then, saw keeping its lease; empty if it saw none.
    """

    def __init__(self, client: Client, keys: CampaignKeys, *, holder: str, lease_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._lease_ms = round(lease_seconds * 1000)
        self._acquire = Script(client, scripts.ACQUIRE)
        self._renew = Script(client, scripts.RENEW)
        self._release = Script(client, scripts.RELEASE)
        self._fenced = Script(client, scripts.FENCED)
        self.token = f"{holder}:{secrets.token_hex(4)}"
        self.fence = 0
        self.predecessor = ""

    def acquire(self, floor: int) -> bool:
        """Take the lease if it is free; False while another holds it.

        Args:
            floor: the new fence will be above it (the highest fence that the checkpoints know).

        Raises:
            BrokerUnavailable: unknown; ask again.
        """
        with broker_errors("taking the lease"):
            fence = self._acquire(keys=[self._keys.writer, self._keys.fence], args=[self.token, self._lease_ms, floor])
        if fence is None:
            return False
        self.fence = int(fence)
        return True

    def evict(self, holder: str) -> None:
        """Give back the lease of a holder that is known to be dead; it does nothing if another has it by now."""
        with broker_errors("giving a dead holder's lease back"):
            self._release(keys=[self._keys.writer], args=[holder])

    def holder(self) -> str | None:
        """Who holds the lease now, for a message; None if nobody does."""
        with broker_errors("reading the lease"):
            value = self._client.get(self._keys.writer)
        return None if value is None else value.decode()

    def left_ms(self) -> int:
        """How long the lease still lasts unless its holder keeps it; negative if nobody holds it."""
        with broker_errors("reading the lease"):
            return int(self._client.pttl(self._keys.writer))

    def renew(self) -> bool:
        """Keep the lease; False when it has passed to another.

        Raises:
            BrokerUnavailable: unknown; ask again.
        """
        with broker_errors("keeping the lease"):
            kept = self._renew(
                keys=[self._keys.writer, self._keys.fence], args=[self.token, self.fence, self._lease_ms]
            )
        return bool(kept)

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        with broker_errors("giving the lease back"):
            self._release(keys=[self._keys.writer], args=[self.token])

    def commit(self, epoch: str, commands: Sequence[Command]) -> list[Any]:
        """Run commands as one transaction that takes effect only while the lease is ours.

        Raises:
            FencedOut: another coordinator has taken over; nothing was written.
            LostData: the server has lost the campaign (or never had it); nothing was written.
            BrokerUnavailable: it may or may not have been written; commit the same again.
        """
        packed = msgpack.packb([list(command) for command in commands], use_bin_type=False)
        with broker_errors("committing"):
            try:
                replies = self._fenced(
                    keys=[self._keys.writer, self._keys.fence, self._keys.epoch],
                    args=[self.token, self.fence, epoch, self._lease_ms, packed],
                )
            except redis.ResponseError as error:
                if "FENCEDOUT" in str(error):
                    raise FencedOut(
                        f"campaign {self._keys.campaign} has passed to another coordinator; this one ends."
                    ) from None
                if "LOSTDATA" in str(error):
                    raise LostData(f"the broker no longer has campaign {self._keys.campaign}.") from None
                raise
        return list(replies)
