"""The signature of this device, beside what it sends."""

from __future__ import annotations

from fl_core.identity.domain import Seal
from workers.settings import WorkerSettings


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
