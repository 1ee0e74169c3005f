"""A device signs what it sends."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity
from fl_core.identity.keys import sign
from fl_core.wire.signed import Signed


@dataclass(frozen=True, slots=True)
class Signer:
    """Puts an identity's signature and certificate beside records.

    Attributes:
        identity: whose.
    """

    identity: Identity

    def seal(self, domain: Domain, record: bytes) -> bytes:
        """The signed record.

        Raises:
            RejectedUpdate: it is too large for any receiver (malformed).
        """
        signature = sign(self.identity.key, domain, record)
        return Signed(signature=signature, certificate=self.identity.certificate.der, body=record).to_bytes()
