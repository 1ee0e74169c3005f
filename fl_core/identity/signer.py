"""Devices, coordinators and operators sign what they send."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fl_core.errors import CampaignError
from fl_core.identity.certificates import Role
from fl_core.identity.domain import Domain
from fl_core.identity.folder import Identity, read_identity
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


@dataclass(frozen=True, slots=True)
class Operator:
    """Signs requests to campaigns; the identity is read when there is something to sign.

    Attributes:
        folder: the identity's.
    """

    folder: Path

    def identity(self) -> Identity:
        """Who signs.

        Raises:
            SpecError, UntrustedError: the identity cannot be read, or has expired.
            CampaignError: it is no operator's, so that no campaign would do what it asks.
        """
        found = read_identity(self.folder)
        if (role := found.certificate.role) is not Role.OPERATOR:
            raise CampaignError(
                f"{found.name} is a {role.value}, and campaigns do what operators ask; give --identity DIR, the folder "
                "of one (`fedtide authority issue operator NAME` makes it)."
            )
        return found

    def seal(self, domain: Domain, record: bytes) -> bytes:
        """The signed record.

        Raises:
            SpecError, UntrustedError, CampaignError: as of ``identity``.
        """
        return Signer(self.identity()).seal(domain, record)
