"""What the authority takes back while a campaign runs: noticed, and written into the log, where it counts."""

from __future__ import annotations

import structlog

from coordinator.campaign.state import CampaignState
from coordinator.outgoing.context import Context
from coordinator.outgoing.transaction import Transaction
from fl_core.broker.access.mailbox import read_revocation_list
from fl_core.errors import UntrustedError
from fl_core.wire.events import Revoked

# An event that was written and does not come back from the log got lost with the server: it is written again.
AGAIN_SECONDS = 10.0


class Revocations:
    """Looks for a newer list than the one that the log has.

    Args:
        ctx, state: the campaign's.
        transaction: where the event goes.
    """

    def __init__(self, ctx: Context, state: CampaignState, transaction: Transaction) -> None:
        self._ctx = ctx
        self._signers = state.signers
        self._transaction = transaction
        self._judged = b""
        self._again_at = float("-inf")
        self._log = structlog.get_logger().bind(campaign=ctx.identity.campaign)

    def look(self) -> None:
        """Look once; nothing is asked where the campaign has no authority.

        Raises:
            BrokerUnavailable: look again.
        """
        if not self._signers.authority:
            return
        found = read_revocation_list(self._ctx.client) or b""
        if not found or found == self._judged:
            return
        from fl_core.identity.revocations import read_revocations

        try:
            revocations = read_revocations(found, self._signers.authority)
        except UntrustedError as error:
            self._judged = found
            self._log.warning("what stands at the broker as revoked is not taken", reason=str(error))
            return
        if revocations.number <= self._signers.number:
            self._judged = found
            if revocations.number < self._signers.number:
                self._log.warning(
                    "the broker has an older list of what was revoked than the campaign; it is not taken",
                    number=revocations.number, known=self._signers.number,
                )  # fmt: skip
            return
        now = self._ctx.machine.monotonic()
        if now < self._again_at:  # it was written, and is to be read back
            return
        self._again_at = now + AGAIN_SECONDS
        self._judged = b""  # if the one before comes back, it is told
        serials = tuple(sorted(f"{serial:x}" for serial in revocations.serials))
        self._transaction.append(Revoked(number=revocations.number, serials=serials))
        self._log.info("the authority has revoked certificates", number=revocations.number, certificates=len(serials))
