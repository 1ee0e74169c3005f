"""The folder in which somebody keeps their identity.

==================  ====================================================================================================
``identity.pem``    the private key, and what the authority says of it; mode 0600, and it never leaves this machine
``authority.pem``   the authority's own certificate: whom to trust
``access.toml``     where the broker is, and the server for blobs; no secret
``next.pem``        while another certificate is asked for: the key that it will be for
``invitation.pem``  while the first one is asked for: key and certificate of the token
==================  ====================================================================================================

Key and certificate are one file, so that one takes the place of the other in one step. The password at the broker is
derived from the key (HKDF, RFC 5869): there is no second secret to keep, and a new key has a new one.
"""

from __future__ import annotations

import base64
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding

from fl_core.broker.url import check_url, public_url
from fl_core.errors import SpecError, UntrustedError
from fl_core.identity.certificates import Certificate, read_certificate
from fl_core.identity.keys import key_pem, make_key, parse_key, public_bytes, read_secret, write_secret
from fl_core.program.host import is_loopback
from fl_core.program.redaction import hide
from fl_core.program.whole_file import whole_file

IDENTITY, AUTHORITY, ACCESS, NEXT = "identity.pem", "authority.pem", "access.toml", "next.pem"
INVITATION = "invitation.pem"
_END_OF_KEY = b"-----END PRIVATE KEY-----\n"


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
    """

    folder: Path
    key: Ed25519PrivateKey
    certificate: Certificate
    authority: bytes
    broker: str = ""
    blobs: str = ""

    @property
    def name(self) -> str:
        """Of the user at the broker as well."""
        return self.certificate.name

    def url(self, broker: str = "", *, as_user: bool = True) -> str:
        """The broker's URL with user and password, and with key and certificate where it has TLS.

        Args:
            broker: another address than the one that is kept; a user in it stays.
            as_user: log in as this identity's user, where the address names none.

        Raises:
            SpecError: neither address is there.
        """
        address = broker or self.broker
        if not address:
            raise SpecError(f"{self.folder} says of no broker; give its address with --broker.")
        return address_with(address, self.name if as_user else "", password_of(self.key), self.folder)


def address_with(address: str, user: str, password: str, folder: Path, shown: str = IDENTITY) -> str:
    """A Redis URL with user and password, and for TLS with the files of an identity's folder.

    Args:
        address: a user in it stays, and so do options of TLS.
        user: empty for none.
        shown: the file with the key and the certificate that the server is shown.

    Raises:
        SpecError: the password would travel in plain text to another machine.
    """
    parts = urlsplit(check_url(address))
    if (user or parts.password) and parts.scheme == "redis" and not is_loopback(parts.hostname or ""):
        raise SpecError(
            f"broker = {public_url(address)!r} has no TLS, so that others on the way could read the password and "
            "all updates; write rediss:// and have the server use TLS (docs/security.md)."
        )
    netloc, query = parts.netloc, parts.query
    if user and parts.username is None and parts.password is None:
        netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{netloc}"
    if parts.scheme == "rediss" and "ssl_ca_certs" not in query:
        files = {"ssl_ca_certs": AUTHORITY, "ssl_certfile": shown, "ssl_keyfile": shown}
        # Celery's connection takes any certificate where this is not said.
        options = urlencode({"ssl_cert_reqs": "required"} | {key: str(folder / name) for key, name in files.items()})
        query = f"{query}&{options}" if query else options
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def password_of(key: Ed25519PrivateKey) -> str:
    """The password at the broker: 256 bits of the key's own, in characters that a URL takes as they are."""
    derived = HKDF(SHA256(), 32, salt=None, info=b"fedtide/password/1").derive(key.private_bytes_raw())
    password = base64.urlsafe_b64encode(derived).decode().rstrip("=")
    hide(password)
    return password


def read_identity(folder: Path) -> Identity:
    """Read one's own identity.

    Raises:
        SpecError: a file is missing, is none, or can be read by others.
        UntrustedError: the certificate is of another authority or for another key, or has expired.
    """
    folder = folder.absolute()
    path = folder / IDENTITY
    if not path.exists():
        raise SpecError(
            f"{folder} holds no identity; `fedtide-worker enroll TOKEN --identity DIR` makes one on a device."
        )
    content = read_secret(path, "identity")
    pem = content.partition(_END_OF_KEY)[2]
    if not pem.strip():
        raise SpecError(f"{path} has no certificate yet; the command that made it, again, waits for it.")
    key = parse_key(content, path)
    authority = read_pem(folder / AUTHORITY)
    certificate = read_certificate(_der(pem, path), authority)
    if certificate.public_key != public_bytes(key):
        raise UntrustedError(f"{path} holds a certificate for another key; enrol this device again.")
    if not certificate.is_current(time.time() * 1000):
        raise UntrustedError(_not_current(certificate))
    return Identity(folder, key, certificate, authority, **_read_access(folder / ACCESS))


def _not_current(certificate: Certificate) -> str:
    whose = f"the certificate of {certificate.name}"
    if certificate.not_after_ms < time.time() * 1000:
        return (
            f"by this machine's clock, {whose} has expired ({certificate.period}); set the clock, or have it renewed "
            f"with `fedtide device rotate {certificate.name}`."
        )
    return f"by this machine's clock, {whose} is not good yet ({certificate.period}); set the clock."


def key_of(folder: Path, name: str = IDENTITY) -> Ed25519PrivateKey:
    """The key in a folder, made if there is none.

    Raises:
        SpecError: it cannot be made or read.
    """
    path = folder / name
    if not path.exists():
        write_secret(path, key_pem(make_key()), "key")
    return parse_key(read_secret(path, "key"), path)


def complete(folder: Path, key: Ed25519PrivateKey, certificate: Certificate, name: str = IDENTITY) -> None:
    """Put the certificate beside its key; ``identity.pem`` is the new one from then on, or still the one before.

    Raises:
        UntrustedError: it is for another key.
        SpecError: the folder cannot be written.
    """
    if certificate.public_key != public_bytes(key):
        raise UntrustedError(f"the certificate for {certificate.name} that came back is for another key than ours.")
    try:
        with whole_file(folder / IDENTITY, durable=True, private=True) as file:
            file.write(key_pem(key) + certificate.pem)
        for done in {name, INVITATION} - {IDENTITY}:
            (folder / done).unlink(missing_ok=True)
    except OSError as error:
        raise SpecError(f"{folder} cannot be written ({error.strerror}).") from None


def write_surroundings(folder: Path, authority: bytes, *, broker: str, blobs: str) -> None:
    """Keep whom to trust, and where the servers are.

    Raises:
        SpecError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with whole_file(folder / AUTHORITY, durable=True) as file:
            file.write(x509.load_der_x509_certificate(authority).public_bytes(Encoding.PEM))
        with whole_file(folder / ACCESS, durable=True) as file:
            file.write(tomli_w.dumps({"broker": broker, "blobs": blobs}).encode())
    except OSError as error:
        raise SpecError(f"{folder} cannot be written ({error.strerror}).") from None


def read_pem(path: Path) -> bytes:
    """A certificate's file as DER.

    Raises:
        SpecError: it cannot be read, or is none.
    """
    try:
        return _der(path.read_bytes(), path)
    except OSError as error:
        raise SpecError(f"certificate {path} cannot be read ({error.strerror}).") from None


def _der(pem: bytes, path: Path) -> bytes:
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except ValueError:
        raise SpecError(f"{path} holds no certificate in PEM where one should be.") from None


def _read_access(path: Path) -> dict[str, str]:
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise SpecError(f"{path} is no TOML; write broker and blobs, each as text.") from None
    if found.keys() - {"broker", "blobs"} or not all(isinstance(value, str) for value in found.values()):
        raise SpecError(f"{path} holds something else than broker and blobs, each as text.")
    return found
