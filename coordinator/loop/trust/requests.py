"""What operators ask of a campaign, read from outside: whose request it is, and whether it is good for this one.

Where the campaign has an authority, a request is signed by an operator of it, for one life of one campaign, and good
once. What is refused becomes an event, so that it is told, and is not judged again by the next coordinator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.campaign.signers import Signers
from coordinator.outgoing.context import Context
from fl_core.broker.overview.registry import SIGNED
from fl_core.errors import Reason, RejectedUpdate
from fl_core.program.plain_text import shown
from fl_core.wire.events import RequestRefused
from fl_core.wire.log_entry import order

# A replayed request is none of the reasons for which updates are refused.
REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is to be done.

    Attributes:
        request: one of ``fl_core.wire.states.Request``; where requests need no signature, any text.
        argument: what it is about.
        operator, nonce: as of ``Paused``.
    """

    request: str
    argument: str
    operator: str | None = None
    nonce: str | None = None


class Requests:
    """Reads them.

    Args:
        ctx: the campaign.
        signers: whom it trusts, as of the last entry of the log.
    """

    def __init__(self, ctx: Context, signers: Signers) -> None:
        self._identity = ctx.identity
        self._signers = signers
        # Taken, and not read back from the log yet.
        self._taken: set[str] = set()

    def forget(self) -> None:
        """What was taken did not reach the log."""
        self._taken.clear()

    def read(self, position: str, fields: Mapping[bytes, bytes]) -> Asked | RequestRefused:
        """An entry of the control stream; nothing in it is trusted."""
        words = {name: fields.get(name, b"")[:100].decode(errors="replace") for name in (b"request", b"argument")}
        if not self._signers.authority:
            return Asked(words[b"request"], words[b"argument"])
        try:
            return self._verified(fields.get(SIGNED.encode(), b""), order(position)[0])
        except RejectedUpdate as error:
            reason = "unknown_operator" if error.reason is Reason.UNKNOWN_WORKER else error.reason.value
            return self._refused(position, words[b"request"], reason, error.detail)
        except _Replayed as error:
            return self._refused(position, words[b"request"], REPLAYED, str(error))

    def _verified(self, signed: bytes, moment_ms: int) -> Asked:
        asked, operator = self._signers.request(signed, moment_ms)
        if asked.campaign != self._identity.campaign:
            raise _Replayed(f"{operator} asked it of campaign {asked.campaign}")
        if asked.incarnation != self._identity.incarnation:
            raise _Replayed(f"{operator} asked it before this campaign began a new life; ask again if it still holds")
        if asked.nonce in self._signers.nonces or asked.nonce in self._taken:
            raise _Replayed(f"{operator} asked it once, and that was done; somebody has sent it again")
        self._taken.add(asked.nonce)
        return Asked(asked.request, asked.argument, operator, asked.nonce)

    @staticmethod
    def _refused(position: str, request: str, reason: str, detail: str) -> RequestRefused:
        return RequestRefused(control=position, request=shown(request, 60), reason=reason, detail=shown(detail, 300))


class _Replayed(Exception):
    pass
