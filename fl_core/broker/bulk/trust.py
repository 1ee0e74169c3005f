"""A device believes its coordinator and not the broker: orders and pointers are held against signatures.

Whoever operates the broker can write anything there. What a coordinator has signed nobody can change, but an old one
can be shown again; so a device remembers how far each campaign was when it looked last (``seen.py``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from fl_core.broker.bulk.chunks import count_chunks
from fl_core.broker.bulk.head import Head, Pointer
from fl_core.broker.bulk.places import read_place
from fl_core.broker.bulk.seen import Seen
from fl_core.broker.rows import MAX_BLOB_BYTES, BadRow
from fl_core.errors import BrokerError, RejectedUpdate, UntrustedError
from fl_core.identity.certificates import BACKDATED, Role, read_certificate
from fl_core.identity.domain import Domain
from fl_core.identity.keys import is_signed
from fl_core.identity.revocations import Revocations, read_revocations
from fl_core.wire.digest import STRONG_DIGITS
from fl_core.wire.signed import Signed

# By so much may this device's clock be wrong.
_TOLERANCE_MS = BACKDATED.total_seconds() * 1000
# The pointers and orders that were found good last: most claims bring the same once more.
MAX_KNOWN = 32
# So often is it looked whether a coordinator was sent away.
LIST_SECONDS = 30.0


class Trust:
    """What this device believes.

    Args:
        authority: the certificate of the authority that it belongs to, DER.
        seen: how far campaigns were.
        wall_ms: this machine's clock.
        read_list: reads what the authority has revoked, as the broker shows it; None for nothing.
    """

    def __init__(
        self,
        authority: bytes,
        seen: Seen,
        wall_ms: Callable[[], float] = lambda: time.time() * 1000,
        read_list: Callable[[], bytes | None] = lambda: None,
    ) -> None:
        self._authority = authority
        self._seen = seen
        self._wall_ms = wall_ms
        self._read_list = read_list
        self._revoked = Revocations(number=-1)
        self._next_list = float("-inf")
        self._known: dict[tuple[Domain, bytes], bytes] = {}

    def order(self, campaign: str, packed: bytes) -> bytes:
        """The bytes of an order, if a coordinator has signed them.

        Raises:
            UntrustedError: none has.
        """
        return self._opened(f"the order of campaign {campaign}", Domain.ORDER, packed)

    def head(self, campaign: str, found: Head, order: str = "", incarnation: str = "") -> Head:
        """The pointer as its coordinator has signed it; what the broker says beside that counts for nothing.

        Args:
            found: as the broker has it.
            order: the name of the order that came with it; empty where none did.
            incarnation: as the order says.

        Raises:
            UntrustedError: no coordinator has signed it, for this campaign and order; or it is an old one.
        """
        what = f"the pointer of campaign {campaign}"
        body = self._opened(what, Domain.VERSION, found.sealed)
        try:
            signed = Pointer.from_bytes(body)
            place, updates = read_place(signed.place.encode()), read_place(signed.updates.encode())
        except (RejectedUpdate, BadRow) as error:
            raise UntrustedError(f"{what} cannot be read ({error}).") from None
        if signed.campaign != campaign:
            raise UntrustedError(f"{what} is that of campaign {signed.campaign}: somebody has put it there.")
        if order and (signed.order != order or signed.incarnation != incarnation):
            raise UntrustedError(f"{what} goes with another order: somebody shows an old one again.")
        if len(signed.digest) != STRONG_DIGITS or signed.num_bytes > MAX_BLOB_BYTES:
            raise UntrustedError(f"{what} names no version by BLAKE3; its coordinator is of another release.")
        self._seen.advance(campaign, signed.incarnation, signed.fence, signed.version_number)
        return replace(
            found, version=signed.version_number, digest=signed.digest, num_bytes=signed.num_bytes,
            num_chunks=count_chunks(signed.num_bytes), place=place, updates=updates, codec=signed.codec,
            incarnation=signed.incarnation, mac=signed.mac,
        )  # fmt: skip

    def _opened(self, what: str, domain: Domain, packed: bytes) -> bytes:
        """What a coordinator has signed."""
        if (known := self._known.get((domain, packed))) is not None:
            return known
        try:
            signed = Signed.from_bytes(packed)
        except RejectedUpdate:
            raise UntrustedError(
                f"{what} is not signed; launch the campaign with `fedtide --identity DIR`, or start this worker "
                "without --identity."
            ) from None
        try:
            certificate = read_certificate(signed.certificate, self._authority)
        except UntrustedError:
            raise UntrustedError(
                f"{what} is signed under another authority than this device's; enrol the device where the campaign is "
                "launched."
            ) from None
        if certificate.role is not Role.COORDINATOR:
            raise UntrustedError(
                f"{what} is signed by {certificate.name}, a {certificate.role.value}: somebody forged it."
            )
        if self._is_revoked(certificate.serial):
            raise UntrustedError(
                f"{what} is signed by {certificate.name}, whose certificate was revoked; launch with another one."
            )
        now = self._wall_ms()
        if not certificate.not_before_ms <= now <= certificate.not_after_ms + _TOLERANCE_MS:
            raise UntrustedError(
                f"{what} is signed with a certificate of {certificate.name} that is not good now, by this machine's "
                "clock; launch with a newer one (`fedtide authority issue`), or set the clock."
            )
        if not is_signed(certificate.public_key, domain, signed.body, signed.signature):
            raise UntrustedError(f"{what} is not what {certificate.name} has signed: somebody forged it.")
        self._known[domain, packed] = signed.body
        while len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        return signed.body

    def _is_revoked(self, serial: int) -> bool:
        """As of the newest list that was seen; the broker may show an old one, or none."""
        if time.monotonic() >= self._next_list:
            self._next_list = time.monotonic() + LIST_SECONDS
            with contextlib.suppress(BrokerError, UntrustedError):
                found = read_revocations(self._read_list() or b"", self._authority)
                if found.number > self._revoked.number:
                    self._revoked = found
        return serial in self._revoked.serials
