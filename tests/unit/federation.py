"""An authority and its members, in memory: what tests of signatures need, and what forgers have."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Any

from fl_core.identity.certificates import Role, issue, make_authority
from fl_core.identity.domain import Domain, Seal
from fl_core.identity.keys import make_key, public_bytes, sign
from fl_core.identity.revocations import sign_revocations
from fl_core.wire.signed import Signed

START = datetime.datetime.fromtimestamp(1_000, datetime.UTC)  # where the log by hand begins


class Federation:
    """One authority.

    Args:
        now: when all is signed.

    Attributes:
        authority: its certificate, DER.
    """

    def __init__(self, now: datetime.datetime = START) -> None:
        self._now = now
        self._key = make_key()
        self.authority = make_authority(self._key, "ours", now)

    def certificate(self, name: str, role: Role, key: Any, days: float = 10.0) -> bytes:
        """What it says of a key, DER."""
        return issue(
            self._key, self.authority, name=name, role=role, public_key=public_bytes(key), now=self._now, days=days
        )

    def revocations(self, number: int, serials: Iterable[int]) -> bytes:
        """A list of what it takes back, DER."""
        return sign_revocations(self._key, self.authority, number, serials, self._now)

    def revoked(self, number: int, *serials: int) -> bytes:
        """The list of what it has taken back, DER."""
        return sign_revocations(self._key, self.authority, number, serials, self._now)

    def member(self, name: str, role: Role, *, days: float = 10.0) -> Seal:
        """A member with a key of its own, who signs."""
        key = make_key()
        return sealer(key, self.certificate(name, role, key, days))


def sealer(key: Any, certificate: bytes) -> Callable[[Domain, bytes], bytes]:
    """Who signs with a key and shows a certificate, whether or not the two belong together."""

    def seal(domain: Domain, record: bytes) -> bytes:
        return Signed(signature=sign(key, domain, record), certificate=certificate, body=record).to_bytes()

    return seal
