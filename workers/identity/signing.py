"""The signature of this device, beside what it sends; and its trust in what coordinators have signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fl_core.broker.access.mailbox import read_revocation_list
from fl_core.broker.connection import Client
from fl_core.identity.domain import Seal
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from fl_core.broker.bulk.trust import Trust


def seal_of(settings: WorkerSettings) -> Seal | None:
    """What signs this worker's updates and reports; None where it has no identity.

    Raises:
        SpecError, UntrustedError: the identity cannot be read, or has expired.
    """
    if settings.identity is None:
        return None
    from fl_core.identity.folder import read_identity
    from fl_core.identity.signer import Signer

    return Signer(read_identity(settings.identity)).seal


def trust_of(settings: WorkerSettings, client: Client) -> Trust | None:
    """What holds orders and versions against their coordinator's signature; None where it has no identity.

    Args:
        settings: the worker's.
        client: the broker's, where what was revoked is read.

    Raises:
        SpecError, UntrustedError: the identity cannot be read, or has expired.
    """
    if settings.identity is None:
        return None
    from fl_core.broker.bulk.seen import Seen
    from fl_core.broker.bulk.trust import Trust
    from fl_core.identity.folder import read_identity

    authority, seen = read_identity(settings.identity).authority, Seen(settings.state_dir / "seen.msgpack")
    return Trust(authority, seen, read_list=lambda: read_revocation_list(client))


def authority_of(settings: WorkerSettings) -> bytes:
    """The certificate of the authority whose members this worker trusts, DER; empty where it has no identity.

    Raises:
        SpecError, UntrustedError: the identity cannot be read, or has expired.
    """
    if settings.identity is None:
        return b""
    from fl_core.identity.folder import read_identity

    return read_identity(settings.identity).authority
