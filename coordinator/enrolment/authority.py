"""An authority: the key that signs certificates, what it has signed, and what it has taken back.

=============================  ================================================================================
``authority.key``              its private key, mode 0600; whoever has it can make members
``authority.pem``              its certificate: what devices and servers trust
``members/NAME.json``          what it knows of each member
``revocations.crl``            what it has taken back, signed and numbered
``identities/NAME/``           identities that were made here: of coordinators, operators, monitors and servers
=============================  ================================================================================
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.members import Member, Members
from fl_core.errors import SpecError
from fl_core.identity.certificates import Certificate, Role, issue, make_authority, read_certificate
from fl_core.identity.enrolment import password_hash
from fl_core.identity.folder import complete, key_of, password_of, read_pem, write_surroundings
from fl_core.identity.keys import key_pem, make_key, parse_key, public_bytes, read_secret, write_secret
from fl_core.identity.revocations import Revocations, read_revocations, sign_revocations
from fl_core.names import check_name
from fl_core.program.whole_file import whole_file
from fl_core.secure_aggregation.sealing import sealing_key

AUTHORITY_KEY, AUTHORITY_CERTIFICATE, REVOCATION_LIST = "authority.key", "authority.pem", "revocations.crl"


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority at hand, with its key.

    Attributes:
        folder: where it stands.
        key: its private key.
        certificate: its own certificate, DER.
    """

    folder: Path
    key: Ed25519PrivateKey
    certificate: bytes

    @property
    def members(self) -> Members:
        """Everybody whom it knows."""
        return Members(self.folder / "members")

    def issue(
        self,
        name: str,
        role: Role,
        public_key: bytes,
        days: float,
        *,
        queues: Sequence[str] = (),
        hosts: Sequence[str] = (),
        sealing_key: bytes = b"",
    ) -> Certificate:
        """Sign a certificate."""
        der = issue(
            self.key, self.certificate, name=name, role=role, public_key=public_key, now=_now(), days=days,
            queues=queues, hosts=hosts, sealing_key=sealing_key,
        )  # fmt: skip
        return read_certificate(der, self.certificate)

    def make_identity(
        self,
        name: str,
        role: Role,
        days: float,
        *,
        queues: Sequence[str] = (),
        hosts: Sequence[str] = (),
        broker: str = "",
        blobs: str = "",
    ) -> tuple[Member, Path]:
        """A key and a certificate for somebody who works on this machine, or is carried from here.

        Args:
            queues: what a device may serve.
            hosts: a server's names and addresses.
            broker: the Redis URL that it will use, without user and password.
            blobs: the second server's place.

        Returns:
            The member, and the folder with its identity.

        Raises:
            SpecError: the name is taken, or the folder cannot be written.
        """
        check_name("name", name)
        self._must_be_new(name)
        folder = self.folder / "identities" / name
        write_surroundings(folder, self.certificate, broker=broker, blobs=blobs)
        key = key_of(folder)
        sealing = sealing_key(key).public_key().public_bytes_raw() if role is Role.KEEPER else b""
        certificate = self.issue(name, role, public_bytes(key), days, queues=queues, hosts=hosts, sealing_key=sealing)
        complete(folder, key, certificate)
        member = Member(
            name, role, "enrolled", tuple(queues), days, password_hash=password_hash(password_of(key)).hex(),
            serial=f"{certificate.serial:x}", public_key=certificate.public_key.hex(),
            certificate=certificate.der.hex(), not_after_ms=certificate.not_after_ms,
        )  # fmt: skip
        return self.members.put(member), folder

    def revocations(self) -> Revocations:
        """What was taken back so far."""
        return read_revocations(self.revocation_list(), self.certificate)

    def revocation_list(self) -> bytes:
        """The list as it is published, DER.

        Raises:
            SpecError: it cannot be read.
        """
        path = self.folder / REVOCATION_LIST
        try:
            return path.read_bytes()
        except OSError as error:
            raise SpecError(f"{path} cannot be read ({error.strerror}).") from None

    def take_back(self, serials: Iterable[int]) -> Revocations:
        """Put certificates on the list, under the next number; those that are on it stay there."""
        before = self.revocations()
        after = before.serials | frozenset(serials)
        if after == before.serials:
            return before
        self._write_list(before.number + 1, after)
        return Revocations(before.number + 1, after)

    def _must_be_new(self, name: str) -> None:
        if (known := self.members.find(name)) is not None and known.state != "revoked":
            raise SpecError(f"{name} is a member already ({known.role.value}, {known.state}); choose another name.")

    def _write_list(self, number: int, serials: Iterable[int]) -> None:
        with whole_file(self.folder / REVOCATION_LIST, durable=True) as file:
            file.write(sign_revocations(self.key, self.certificate, number, serials, _now()))


def create_authority(folder: Path, name: str) -> Authority:
    """Make an authority.

    Raises:
        SpecError: there is one already, the name is none, or the folder cannot be written.
    """
    check_name("name", name)
    folder = folder.absolute()
    key = make_key()
    write_secret(folder / AUTHORITY_KEY, key_pem(key), "key")
    authority = Authority(folder, key, make_authority(key, name, _now()))
    try:
        folder.chmod(0o700)
        with whole_file(folder / AUTHORITY_CERTIFICATE, durable=True) as file:
            file.write(x509.load_der_x509_certificate(authority.certificate).public_bytes(Encoding.PEM))
        authority._write_list(0, ())
    except OSError as error:
        raise SpecError(f"{folder} cannot be written ({error.strerror}).") from None
    return authority


def open_authority(folder: Path) -> Authority:
    """An authority that was made before.

    Raises:
        SpecError: there is none, or others may read its key.
    """
    folder = folder.absolute()
    if not (folder / AUTHORITY_KEY).exists():
        raise SpecError(f"{folder} is no authority's folder; `fedtide authority init {folder.name}` makes one.")
    key = parse_key(read_secret(folder / AUTHORITY_KEY, "key"), folder / AUTHORITY_KEY)
    return Authority(folder, key, read_pem(folder / AUTHORITY_CERTIFICATE))


def now_ms() -> int:
    """By the authority's clock."""
    return time.time_ns() // 1_000_000


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
