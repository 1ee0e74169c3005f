"""Whether a device still belongs to its federation; asked where the broker refuses it.

A broker that refuses a device may have been restarted without its users, and is waited for. A device that its authority
has sent away need not wait: the broker lets it read the list that says so, and the authority's signature on it.
"""

from __future__ import annotations

from fl_core.broker.access.mailbox import read_revocation_list
from fl_core.broker.connection import connect
from fl_core.errors import BrokerError, SpecError, UntrustedError
from workers.settings import WorkerSettings

TIMEOUT_SECONDS = 5.0


class Standing:
    """Of a worker that was started with an identity, or with none.

    Args:
        settings: the worker's.

    Raises:
        SpecError, UntrustedError: the identity cannot be used.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._serial = 0
        if settings.identity is not None:
            from fl_core.identity.folder import read_identity

            self._serial = read_identity(settings.identity).certificate.serial

    @property
    def is_known(self) -> bool:
        """Whether the worker has an identity."""
        return self._settings.identity is not None

    def exclusion(self) -> str:
        """Why waiting is of no use, in one sentence; empty where it may be of some."""
        if self._settings.identity is None:
            return ""
        from fl_core.identity.folder import read_identity
        from fl_core.identity.revocations import read_revocations

        name = self._settings.name
        try:
            identity = read_identity(self._settings.identity)
            if identity.certificate.serial != self._serial:
                return f"{name} was given another certificate after this worker had started; start it again."
            with connect(self._settings.broker, timeout_seconds=TIMEOUT_SECONDS) as client:
                found = read_revocation_list(client)
            if found is None or self._serial not in read_revocations(found, identity.authority).serials:
                return ""
        except UntrustedError as error:
            return str(error) if "expired" in str(error) else ""
        except (BrokerError, SpecError):
            return ""
        return (
            f"the authority has revoked the certificate of {name}: this device takes part no more; whoever runs the "
            "federation can invite it again with `fedtide device add`."
        )
