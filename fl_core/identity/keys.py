"""Ed25519 keys: made where they are used, kept in files that only their owner reads, and what is signed with them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fl_core.errors import SpecError
from fl_core.identity.domain import Domain
from fl_core.wire.signed import SIGNATURE_BYTES

PUBLIC_KEY_BYTES = 32


def make_key() -> Ed25519PrivateKey:
    """A new key, from the operating system's randomness."""
    return Ed25519PrivateKey.generate()


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The key's public half, 32 bytes."""
    return key.public_key().public_bytes_raw()


def sign(key: Ed25519PrivateKey, domain: Domain, data: bytes | memoryview) -> bytes:
    """64 bytes, over the domain and the data (RFC 8032)."""
    return key.sign(_message(domain, data))


def is_signed(public_key: bytes, domain: Domain, data: bytes | memoryview, signature: bytes) -> bool:
    """Whether ``signature`` was made over exactly this, by the owner of the key; any bytes may be asked about.

    >>> key = make_key()
    >>> signature = sign(key, Domain.UPDATE, b"header")
    >>> is_signed(public_bytes(key), Domain.UPDATE, b"header", signature)
    True
    >>> is_signed(public_bytes(key), Domain.REPORT, b"header", signature)
    False
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _message(domain, data))
    except (InvalidSignature, ValueError):
        return False
    return True


def key_pem(key: Ed25519PrivateKey) -> bytes:
    """The key as files hold it (PKCS 8, PEM)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_secret(path: Path, content: bytes, what: str, *, durable: bool = True) -> None:
    """Write a new file with mode 0600; an existing one is never written over.

    Args:
        durable: it survives a power cut; what can be made again need not.

    Raises:
        SpecError: there is a file already, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except FileExistsError:
        raise SpecError(f"{path} is there already, and a {what} is never written over; name another folder.") from None
    except OSError as error:
        raise SpecError(f"{path} cannot be written ({error.strerror}); name a folder that can.") from None


def read_secret(path: Path, what: str) -> bytes:
    """Read a file that holds a secret.

    Raises:
        SpecError: it is not there, cannot be read, or others may read it.
    """
    try:
        status = path.stat()
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{what} {path} cannot be read ({error.strerror}).") from None
    # What root hands to a program by its group is as private as root wants it: credentials of systemd, mounted secrets.
    handed = status.st_uid == 0 != os.getuid()
    if status.st_mode & ((stat.S_IWGRP if handed else stat.S_IRWXG) | stat.S_IRWXO):
        raise SpecError(f"{what} {path} can be read by others on this machine; chmod 600 {path}.")
    return content


def parse_key(pem: bytes, path: Path) -> Ed25519PrivateKey:
    """The key that a file begins with.

    Raises:
        SpecError: it is no Ed25519 key.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SpecError(f"{path} holds no private key in PEM without a passphrase.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SpecError(f"the key in {path} is not an Ed25519 key; fedtide makes and reads no others.")
    return key


def _message(domain: Domain, data: bytes | memoryview) -> bytes:
    return b"%s\0%s" % (domain.value.encode(), data)
