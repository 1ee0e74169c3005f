"""The folder in which somebody keeps their identity: key, certificate, whom they trust, and how they reach the broker.

============================  ============================================================
``key.pem``                   the private key, mode 0600; it never leaves this machine
``certificate.pem``           what the authority says of it
``authority.pem``             the authority's own certificate
``access.toml``               broker, blobs and the broker's password, mode 0600
============================  ============================================================
"""

from __future__ import annotations

import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from fl_core.errors import SpecError, UntrustedError
from fl_core.identity.certificates import Certificate, read_certificate
from fl_core.identity.keys import public_bytes, read_key, read_secret
from fl_core.program.redaction import hide
from fl_core.program.whole_file import whole_file

KEY, CERTIFICATE, AUTHORITY, ACCESS = "key.pem", "certificate.pem", "authority.pem", "access.toml"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this program is.

    Attributes:
        folder: where it stands.
        key: the private key.
        certificate: what the authority says of it.
        authority: the authority's certificate, DER.
        broker: the Redis URL, without user and password; may be empty.
        blobs: the second server's place; may be empty.
        password: at the broker.
    """

    folder: Path
    key: Ed25519PrivateKey
    certificate: Certificate
    authority: bytes
    broker: str = ""
    blobs: str = ""
    password: str = ""

    @property
    def name(self) -> str:
        """Of the user at the broker as well."""
        return self.certificate.name

    def url(self, broker: str = "") -> str:
        """The broker's URL with user and password, and with key and certificate where it has TLS.

        Args:
            broker: another address than the one that is kept.

        Raises:
            SpecError: neither is there.
        """
        address = broker or self.broker
        if not address:
            raise SpecError(f"{self.folder} says of no broker; give its address with --broker.")
        parts = urlsplit(address)
        if parts.username is not None or parts.password is not None or not self.password:
            netloc = parts.netloc
        else:
            netloc = f"{quote(self.name, safe='')}:{quote(self.password, safe='')}@{parts.netloc}"
        query = parts.query
        if parts.scheme == "rediss" and "ssl_certfile" not in query:
            files = {"ssl_certfile": CERTIFICATE, "ssl_keyfile": KEY, "ssl_ca_certs": AUTHORITY}
            options = urlencode({key: str(self.folder / name) for key, name in files.items()})
            query = f"{query}&{options}" if query else options
        return urlunsplit(parts._replace(netloc=netloc, query=query))


def read_identity(folder: Path) -> Identity:
    """Read one's own identity.

    Raises:
        SpecError: a file is missing, is none, or can be read by others.
        UntrustedError: the certificate is of another authority or for another key, or has expired.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise SpecError(f"{folder} is no folder with an identity; `fedtide-worker enroll TOKEN` makes one on a device.")
    key = read_key(folder / KEY)
    authority = _read_pem(folder / AUTHORITY)
    certificate = read_certificate(_read_pem(folder / CERTIFICATE), authority)
    if certificate.public_key != public_bytes(key):
        raise UntrustedError(f"{folder / CERTIFICATE} is for another key than {folder / KEY}; enrol this device again.")
    if certificate.not_after_ms < time.time() * 1000:
        raise UntrustedError(
            f"the certificate of {certificate.name} has expired, by this machine's clock; ask for another one with "
            f"`fedtide device rotate {certificate.name}`, and look at the clock."
        )
    access = _read_access(folder / ACCESS)
    hide(access["password"])
    return Identity(folder, key, certificate, authority, **access)


def write_certificate(folder: Path, certificate: bytes, authority: bytes) -> None:
    """Keep what the authority said, DER.

    Raises:
        OSError: the disk is full or read-only.
    """
    for name, der in ((AUTHORITY, authority), (CERTIFICATE, certificate)):
        with whole_file(folder / name, durable=True) as file:
            file.write(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))


def write_access(folder: Path, *, broker: str, blobs: str, password: str) -> None:
    """Keep how the broker is reached, for the owner alone.

    Raises:
        OSError: the disk is full or read-only.
    """
    text = tomli_w.dumps({"broker": broker, "blobs": blobs, "password": password})
    with whole_file(folder / ACCESS, durable=True) as file:
        file_path = Path(file.name)
        file_path.chmod(0o600)
        file.write(text.encode())


def _read_pem(path: Path) -> bytes:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
    except OSError as error:
        raise SpecError(f"certificate {path} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise SpecError(f"certificate {path} is no certificate in PEM.") from None


def _read_access(path: Path) -> dict[str, str]:
    if not path.exists():
        return {"broker": "", "blobs": "", "password": ""}
    try:
        found: dict[str, Any] = tomllib.loads(read_secret(path, "access").decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise SpecError(f"{path} is no TOML; write broker, blobs and password, each as text.") from None
    access = {key: found.get(key, "") for key in ("broker", "blobs", "password")}
    if found.keys() - access.keys() or not all(isinstance(value, str) for value in access.values()):
        raise SpecError(f"{path} holds something else than broker, blobs and password, each as text.")
    return access
