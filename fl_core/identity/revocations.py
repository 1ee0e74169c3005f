"""Which certificates are good no more: a revocation list that the authority signs, with a number that only rises."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from fl_core.errors import UntrustedError

MAX_LIST_BYTES = 4 * 1024 * 1024
_YEARS = datetime.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Revocations:
    """A list as it was read.

    Attributes:
        number: of the list; one with a lower number is an old one.
        serials: of the certificates that were revoked.
    """

    number: int = 0
    serials: frozenset[int] = frozenset()


def sign_revocations(
    key: Ed25519PrivateKey, authority: bytes, number: int, serials: Iterable[int], now: datetime.datetime
) -> bytes:
    """The list, DER (RFC 5280, section 5)."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_der_x509_certificate(authority).subject)
        .last_update(now)
        .next_update(now + _YEARS)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial in sorted(serials):
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key, None).public_bytes(Encoding.DER)


def read_revocations(der: bytes, authority: bytes) -> Revocations:
    """Read a list that came from somebody.

    Args:
        der: the list.
        authority: the authority's certificate, DER.

    Raises:
        UntrustedError: it is no list of this authority.
    """
    if len(der) > MAX_LIST_BYTES:
        raise UntrustedError(f"a revocation list of {len(der)} bytes is larger than fedtide reads.")
    try:
        parsed = x509.load_der_x509_crl(der)
        key = x509.load_der_x509_certificate(authority).public_key()
        if not isinstance(key, Ed25519PublicKey) or not parsed.is_signature_valid(key):
            raise ValueError
        number = parsed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        serials = frozenset(revoked.serial_number for revoked in parsed)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound):
        raise UntrustedError("a revocation list was not signed by this authority, or is none.") from None
    return Revocations(number, serials)
