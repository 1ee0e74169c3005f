"""Whose updates and reports count: devices that the campaign's authority has certified, each in its own name.

And whose requests do: operators that it has certified, each request once.

What is needed to judge a signature is in the log: the authority's certificate in the first event, what it took back in
later ones, the device's certificate beside its signature, and the time in the entry. So a replay judges as the campaign
did.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from coordinator.campaign.identity import version_mac
from fl_core.errors import Reason, RejectedUpdate, UntrustedError
from fl_core.identity.domain import Domain
from fl_core.secure_aggregation.orders import Answer
from fl_core.wire.digest import STRONG_DIGITS
from fl_core.wire.events import Event, Opened, Revoked
from fl_core.wire.log_entry import LogEntry
from fl_core.wire.messages import ModelUpdate, OperatorRequest, TaskReport
from fl_core.wire.signed import Signed, body_of, is_signed_record

_REMEDY = {
    "device": "enrol the device, and start its worker with --identity",
    "operator": "ask with `fedtide --identity DIR`, the folder of an operator",
    "keeper": "start it with `fedtide-keeper --identity`",
}
_RENEWED = {
    "device": "fedtide device rotate",
    "operator": "fedtide authority issue",
    "keeper": "fedtide authority issue",
}


class Signers:
    """The campaign's authority, and what it has taken back.

    Attributes:
        authority: its certificate, DER; empty where everybody may take part.
        number: of the newest list of what was taken back.
        revoked: serials, hex.
        nonces: of the operators' requests that were taken: a campaign's are few, and all are remembered.
    """

    def __init__(self) -> None:
        self.authority = b""
        self.number = 0
        self.revoked: frozenset[str] = frozenset()
        self.nonces: set[str] = set()

    def expect(self, authority: bytes) -> None:
        """The campaign is going to begin with this authority: its first checkpoint says so, before the log does."""
        self.authority = authority

    def open(self, event: Opened) -> None:
        """The campaign begins."""
        self.authority = event.authority or b""

    def take_back(self, event: Revoked) -> None:
        """A new list; an old one changes nothing."""
        if event.number > self.number:
            self.number, self.revoked = event.number, frozenset(event.serials)

    def note_nonce(self, event: Event) -> None:
        """A request was taken: its nonce is good no more."""
        if (nonce := getattr(event, "nonce", None)) is not None:
            self.nonces.add(nonce)

    def update(self, entry: LogEntry) -> ModelUpdate:
        """The update of an entry, if it is its sender's.

        Raises:
            RejectedUpdate: it is none, or whoever wrote it is not who it says.
        """
        name, body = self._opened(entry.header, Domain.UPDATE, entry.milliseconds)
        update = ModelUpdate.from_bytes(body)
        self._verify_name(name, update.worker)
        if self.authority and len(update.payload_digest) != STRONG_DIGITS:
            raise RejectedUpdate(Reason.BAD_SIGNATURE, "its digest does not bind the payload; it must be BLAKE3", name)
        return update

    def report(self, entry: LogEntry) -> TaskReport:
        """The report of an entry, if it is its sender's.

        Raises:
            RejectedUpdate: as above.
        """
        name, body = self._opened(entry.header, Domain.REPORT, entry.milliseconds)
        report = TaskReport.from_bytes(body)
        self._verify_name(name, report.worker)
        return report

    def request(self, signed: bytes, moment_ms: int) -> tuple[OperatorRequest, str]:
        """What an operator asks, and which of them.

        Raises:
            RejectedUpdate: no operator of this campaign's authority has asked that.
        """
        name, body = self._opened(signed, Domain.CONTROL, moment_ms, "operator")
        return OperatorRequest.from_bytes(body), name

    def readmitted(self, header: bytes, moment_ms: int) -> ModelUpdate:
        """An update that was parked, where somebody may have changed it, if it still is its sender's.

        Raises:
            RejectedUpdate: it is not.
        """
        return self.update(LogEntry(f"{moment_ms}-0", "u", header, b""))

    def verify_base(self, update: ModelUpdate, secret: bytes) -> None:
        """Where pointers are signed, the version that an update starts from is one that a coordinator has published.

        Args:
            secret: the campaign's.

        Raises:
            RejectedUpdate: it is none.
        """
        if not self.authority:
            return
        expected = version_mac(secret, update.incarnation, update.base_version, update.base_digest)
        if not hmac.compare_digest(expected, update.base_mac):
            raise RejectedUpdate(
                Reason.WRONG_BASE,
                f"its device trained from other bytes than version {update.base_version} as it was published, or is of "
                "a release that does not say from which; install this one there",
            )

    def answer(self, entry: LogEntry) -> Answer:
        """A keeper's answer, if it is the keeper's.

        Raises:
            RejectedUpdate: as above.
        """
        name, body = self._opened(entry.header, Domain.UNMASKED, entry.milliseconds, "keeper")
        answer = Answer.from_bytes(body)
        self._verify_name(name, answer.keeper)
        return answer

    def export(self) -> dict[str, Any]:
        """For a checkpoint; nothing where there is no authority."""
        if not self.authority:
            return {}
        kept = {"authority": self.authority, "number": self.number, "revoked": sorted(self.revoked)}
        return {"signers": {**kept, "nonces": sorted(self.nonces)}}

    def restore(self, meta: Mapping[str, Any]) -> None:
        """The inverse of ``export``."""
        if (found := meta.get("signers")) is not None:
            self.authority, self.number = found["authority"], found["number"]
            self.revoked = frozenset(found["revoked"])
            self.nonces = set(found.get("nonces", ()))

    def _opened(self, header: bytes, domain: Domain, moment_ms: int, role: str = "device") -> tuple[str, bytes]:
        """Whose record it is, and its bytes; the name is empty where no one is asked for theirs."""
        if not self.authority:
            return "", body_of(header)
        if not is_signed_record(header):
            raise RejectedUpdate(Reason.BAD_SIGNATURE, f"it is not signed; {_REMEDY[role]}")
        from fl_core.identity.certificates import read_certificate
        from fl_core.identity.keys import is_signed

        signed = Signed.from_bytes(header)
        try:
            certificate = read_certificate(signed.certificate, self.authority)
        except UntrustedError as error:
            raise RejectedUpdate(Reason.UNKNOWN_WORKER, str(error)) from None
        if certificate.role.value != role:
            said = f"{certificate.name} is no {role} but {certificate.role.value}"
            raise RejectedUpdate(Reason.UNKNOWN_WORKER, said, certificate.name)
        if f"{certificate.serial:x}" in self.revoked:
            said = f"a certificate of {certificate.name} that was revoked"
            raise RejectedUpdate(Reason.REVOKED, said, certificate.name)
        if not certificate.is_current(moment_ms):
            raise RejectedUpdate(
                Reason.REVOKED,
                f"the certificate of {certificate.name} was not good by the broker's clock ({certificate.period}); set "
                f"that clock, or make another one with `{_RENEWED[role]}`",
                certificate.name,
            )
        if not is_signed(certificate.public_key, domain, signed.body, signed.signature):
            said = f"it is not signed with the key of {certificate.name}"
            raise RejectedUpdate(Reason.BAD_SIGNATURE, said, certificate.name)
        return certificate.name, signed.body

    def _verify_name(self, signer: str, written: str) -> None:
        if signer and signer != written:
            raise RejectedUpdate(Reason.UNKNOWN_WORKER, f"{signer} has signed it in the name of {written}", signer)
