"""A device asks for its certificate, and its authority answers: both sides of the two records that travel.

The device makes its key and a password, and asks with a certificate signing request, which proves that it holds the key
(RFC 2986). The request is authenticated by the secret of its token, or, where it has a certificate already and wants
another one, by the key that this is for.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import ClassVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fl_core.errors import RejectedUpdate, UntrustedError
from fl_core.identity.domain import Domain
from fl_core.identity.keys import is_signed, sign
from fl_core.wire.checks import bytes_of
from fl_core.wire.record import Record, checked
from fl_core.wire.signed import SIGNATURE_BYTES, is_certificate

_HASH_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest(Record):
    """What a device asks with.

    Attributes:
        signing_request: PKCS 10, DER: the public key and the device's name, signed with the key.
        password_hash: SHA-256 of the password that the device has drawn for itself.
        proof: HMAC-SHA256 of both with the token's secret, or a signature with the key of the present certificate.
    """

    max_bytes: ClassVar[int] = 32 * 1024

    signing_request: bytes = checked(is_certificate)
    password_hash: bytes = checked(bytes_of(_HASH_BYTES))
    proof: bytes = checked(bytes_of(_HASH_BYTES, SIGNATURE_BYTES))


def password_hash(password: str) -> bytes:
    """As Redis keeps it: SHA-256. A drawn password needs no salt."""
    return hashlib.sha256(password.encode()).digest()


def ask(
    name: str,
    key: Ed25519PrivateKey,
    password: str,
    *,
    secret: bytes = b"",
    present_key: Ed25519PrivateKey | None = None,
) -> bytes:
    """The request of a device, with the secret of its token or with the key that it has.

    Args:
        name: of the device.
        key: its new key.
        password: its new password at the broker.
        secret: of the token.
        present_key: of the certificate that it has, where it wants another one.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(key, None).public_bytes(Encoding.DER)
    hashed = password_hash(password)
    body = _body(request, hashed)
    proof = sign(present_key, Domain.ENROLMENT, body) if present_key else hmac.digest(secret, body, "sha256")
    return EnrolmentRequest(signing_request=request, password_hash=hashed, proof=proof).to_bytes()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was read: well-formed, and signed with the key that it is for.

    Attributes:
        public_key: the new one, 32 bytes.
        password_hash: of the new password, 32 bytes.
        body: what is authenticated.
        proof: by whom.
    """

    public_key: bytes
    password_hash: bytes
    body: bytes
    proof: bytes

    def has_secret(self, secret: bytes) -> bool:
        """Whether whoever asks has the token."""
        return hmac.compare_digest(hmac.digest(secret, self.body, "sha256"), self.proof)

    def has_key(self, public_key: bytes) -> bool:
        """Whether whoever asks has the key of that certificate."""
        return is_signed(public_key, Domain.ENROLMENT, self.body, self.proof)


def read_request(data: bytes, name: str) -> Asked:
    """Read what arrived in a device's name; any bytes may have.

    Raises:
        UntrustedError: it is no such request, or one for another name.
    """
    try:
        request = EnrolmentRequest.from_bytes(data)
        parsed = x509.load_der_x509_csr(request.signing_request)
        key = parsed.public_key()
        (common_name,) = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if not parsed.is_signature_valid or not isinstance(key, Ed25519PublicKey):
            raise ValueError
    except (RejectedUpdate, ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise UntrustedError(f"what asks in the name of {name} is no request for a certificate.") from None
    if common_name.value != name:
        raise UntrustedError(f"what asks in the name of {name} wants a certificate for another name.")
    body = _body(request.signing_request, request.password_hash)
    return Asked(key.public_bytes_raw(), request.password_hash, body, request.proof)


def _body(request: bytes, hashed: bytes) -> bytes:
    return hashed + request  # of fixed length first: there is one way to take it apart
