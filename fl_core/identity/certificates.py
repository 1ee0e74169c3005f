"""Certificates: what an authority says of a key, as X.509, so that TLS and signatures go by the same words.

The subject's common name is the owner's name and its organizational unit the role; the queues that a device may serve
are URIs among the alternative names, and so is the key to which seeds are sealed for a keeper. A certificate of a
device is good for clients only: whoever holds it cannot pose as a broker (extended key usage, RFC 5280).
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fl_core.errors import SpecError, UntrustedError
from fl_core.names import check_name, is_name
from fl_core.wire.signed import MAX_CERTIFICATE_BYTES

MAX_QUEUES = 64
# A certificate begins so much before it was signed: the clock of a device may be days behind.
BACKDATED = datetime.timedelta(days=3)
_QUEUE = "urn:fedtide:queue:"
_SEALING_KEY = "urn:fedtide:sealing-key:"
_DAY_MS = 24 * 3600 * 1000
_AUTHORITY_DAYS = 3650


class Role(StrEnum):
    """What somebody is to a federation; who was invited only has a token's certificate, to ask for another one."""

    DEVICE = "device"
    COORDINATOR = "coordinator"
    OPERATOR = "operator"
    MONITOR = "monitor"
    SERVER = "server"
    KEEPER = "keeper"
    INVITED = "invited"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the authority says of a key.

    Attributes:
        name: of its owner, unique in a federation.
        role: what the owner is.
        queues: the device classes that it may serve.
        serial: unique; what a revocation names.
        public_key: Ed25519, 32 bytes.
        not_before_ms, not_after_ms: since when and until when it is good, ms since 1970.
        der: the certificate itself.
        sealing_key: of a keeper, X25519, 32 bytes (``fl_core/secure_aggregation/sealing.py``); empty for others.
    """

    name: str
    role: Role
    queues: tuple[str, ...]
    serial: int
    public_key: bytes
    not_before_ms: int
    not_after_ms: int
    der: bytes
    sealing_key: bytes = b""

    def is_current(self, now_ms: float) -> bool:
        """Whether it is good at that time."""
        return self.not_before_ms <= now_ms <= self.not_after_ms

    @property
    def period(self) -> str:
        """From when to when it is good, in words (UTC)."""
        first, last = (
            datetime.datetime.fromtimestamp(moment / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M")
            for moment in (self.not_before_ms, self.not_after_ms)
        )
        return f"it is good from {first} to {last}, UTC"

    @property
    def pem(self) -> bytes:
        """As files hold it."""
        return x509.load_der_x509_certificate(self.der).public_bytes(Encoding.PEM)


def make_authority(key: Ed25519PrivateKey, name: str, now: datetime.datetime) -> bytes:
    """The certificate that an authority signs for itself, DER; it may sign others', and those none."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(key_id, critical=False)
        .sign(key, None)
        .public_bytes(Encoding.DER)
    )


def issue(
    authority_key: Ed25519PrivateKey,
    authority: bytes,
    *,
    name: str,
    role: Role,
    public_key: bytes,
    now: datetime.datetime,
    days: float,
    queues: Sequence[str] = (),
    hosts: Sequence[str] = (),
    sealing_key: bytes = b"",
) -> bytes:
    """A certificate, DER.

    Args:
        authority_key: the authority's key.
        authority: its certificate, DER.
        public_key: of the owner, 32 bytes.
        days: how long it is good.
        queues: what a device may serve.
        hosts: names and addresses of a server.
        sealing_key: of a keeper.

    Raises:
        SpecError: a name is none.
    """
    check_name("name", name)
    for queue in queues:
        check_name("queue", queue)
    if len(queues) > MAX_QUEUES:
        raise SpecError(f"{name} is to serve {len(queues)} queues; a device serves at most {MAX_QUEUES}.")
    parent = x509.load_der_x509_certificate(authority)
    use = ExtendedKeyUsageOID.SERVER_AUTH if role is Role.SERVER else ExtendedKeyUsageOID.CLIENT_AUTH
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.value),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.subject)
        .public_key(Ed25519PublicKey.from_public_bytes(public_key))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=True)
        .add_extension(issuer_id, critical=False)
    )
    others: list[x509.GeneralName] = [x509.UniformResourceIdentifier(_QUEUE + queue) for queue in queues]
    others += [_host(host) for host in hosts]
    others += [x509.UniformResourceIdentifier(_SEALING_KEY + sealing_key.hex())] if sealing_key else []
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return builder.sign(authority_key, None).public_bytes(Encoding.DER)


@lru_cache(maxsize=4096)
def read_certificate(der: bytes, authority: bytes) -> Certificate:
    """What the authority says in a certificate that came from somebody.

    Whether it is good at a certain time, or was revoked, is for the caller to ask: both may differ from one use to the
    next, and what is read here is kept for the next time.

    Args:
        der: the certificate, DER.
        authority: the authority's own, DER.

    Raises:
        UntrustedError: it is no certificate of this authority.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise UntrustedError(f"a certificate of {len(der)} bytes is larger than any of fedtide's.")
    try:
        parsed = x509.load_der_x509_certificate(der)
        parsed.verify_directly_issued_by(x509.load_der_x509_certificate(authority))
        key = parsed.public_key()
        name = _only(parsed, NameOID.COMMON_NAME)
        role = Role(_only(parsed, NameOID.ORGANIZATIONAL_UNIT_NAME))
        uris = _uris(parsed)
        queues = tuple(uri.removeprefix(_QUEUE) for uri in uris if uri.startswith(_QUEUE))
        (sealing_key,) = [uri for uri in uris if uri.startswith(_SEALING_KEY)] or [_SEALING_KEY]
        sealing_key_bytes = bytes.fromhex(sealing_key.removeprefix(_SEALING_KEY))
        begin, end = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion):
        raise UntrustedError("a certificate was not issued by this authority, or is none.") from None
    if not isinstance(key, Ed25519PublicKey) or not is_name(name):
        raise UntrustedError("a certificate holds no Ed25519 key or no name that fedtide gives.")
    return Certificate(
        name=name,
        role=role,
        queues=queues,
        serial=parsed.serial_number,
        public_key=key.public_bytes_raw(),
        not_before_ms=int(begin.timestamp() * 1000),
        not_after_ms=int(end.timestamp() * 1000),
        der=der,
        sealing_key=sealing_key_bytes,
    )


def _only(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> str:
    (found,) = certificate.subject.get_attributes_for_oid(kind)
    return str(found.value)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
