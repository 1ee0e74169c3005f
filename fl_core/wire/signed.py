"""A record with the signature of who wrote it: what members of a federation send each other through the broker.

The signature is over the record's bytes as they travel; nothing is encoded again to check it. Where no identity is
asked for, the record inside is read all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fl_core.wire.checks import MAX_BOXES, bytes_of, bytes_up_to
from fl_core.wire.digest import digest, strong_digest
from fl_core.wire.messages import ModelUpdate
from fl_core.wire.record import MAX_RECORD_BYTES, Record, checked

MAX_CERTIFICATE_BYTES = 8 * 1024
SIGNATURE_BYTES = 64
# A map of four whose first two entries are these; no other record begins so.
_BEGINNING = b"\x84\xa1v\x01\xa9signature"


is_certificate = bytes_up_to(MAX_CERTIFICATE_BYTES)


def are_certificates(value: object) -> bool:
    """A list of them, one for each keeper."""
    return isinstance(value, list | tuple) and len(value) <= MAX_BOXES and all(map(is_certificate, value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed(Record):
    """A record and who wrote it.

    Attributes:
        signature: Ed25519, over the domain and the body.
        certificate: of the signer, DER.
        body: the record's bytes.
    """

    max_bytes: ClassVar[int] = MAX_RECORD_BYTES + MAX_CERTIFICATE_BYTES + 1024

    signature: bytes = checked(bytes_of(SIGNATURE_BYTES))
    certificate: bytes = checked(is_certificate)
    body: bytes = checked(bytes_up_to(MAX_RECORD_BYTES))


def is_signed_record(header: bytes) -> bool:
    """Whether a header is one of these."""
    return header.startswith(_BEGINNING)


def body_of(header: bytes) -> bytes:
    """The record, without its signature if it has one.

    Raises:
        RejectedUpdate: it begins as a signed one does, and is none (malformed).
    """
    return Signed.from_bytes(header).body if is_signed_record(header) else header


def order_digest(packed: bytes) -> str:
    """By what name an order is told from another one: one that withstands attackers where it is signed."""
    return (strong_digest if is_signed_record(packed) else digest)(packed)


def update_of(header: bytes) -> ModelUpdate:
    """The update that a header holds, signed or not; nothing is said of the signature.

    Raises:
        RejectedUpdate: it holds none (malformed).
    """
    return ModelUpdate.from_bytes(body_of(header))
