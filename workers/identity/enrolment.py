"""``fedtide-worker enroll``: a device makes its key, asks for a certificate, and keeps what comes back.

The key lies in the identity's folder before anything is sent, so that a device that was switched off in between goes on
where it was: the same command asks again, in the same words, and fetches the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fl_core.broker.access import mailbox
from fl_core.broker.connection import connect
from fl_core.errors import BrokerRefused, BrokerUnavailable, SpecError
from fl_core.identity.certificates import Certificate, read_certificate
from fl_core.identity.enrolment import ask, read_request
from fl_core.identity.folder import (
    AUTHORITY,
    IDENTITY,
    INVITATION,
    NEXT,
    Identity,
    address_with,
    complete,
    key_of,
    password_of,
    read_identity,
    read_pem,
    write_surroundings,
)
from fl_core.identity.keys import write_secret
from fl_core.identity.token import Token

POLL_SECONDS = 0.5
_ASKED = {
    True: "{name} has asked for its certificate; let it in with `fedtide device accept {name}`.",
    False: "{name} was asked for before, and the answer is awaited; let it in with `fedtide device accept {name}`.",
}

Tell = Callable[[str], None]


def enroll(token: Token, folder: Path, wait_seconds: float, tell: Tell) -> Identity:
    """Use a token.

    Args:
        token: from the authority.
        folder: where the identity will stand.
        wait_seconds: how long to wait until somebody accepts.
        tell: takes a sentence for whoever sits at the device.

    Returns:
        The new identity.

    Raises:
        SpecError: the folder has an identity, or one that waits for another authority; or nobody accepted in time.
        UntrustedError: the answer is not for this key, or not of this authority.
        BrokerRefused: the token was used, has expired, or was replaced by another one.
        BrokerUnavailable: the broker is away.
    """
    folder = folder.absolute()
    if b"BEGIN CERTIFICATE" in _content(folder / IDENTITY):
        raise SpecError(
            f"{folder} holds the identity of an enrolled device; `fedtide-worker enroll --renew` gets that another "
            "certificate, and another device takes another --identity."
        )
    if (folder / AUTHORITY).exists() and read_pem(folder / AUTHORITY) != token.authority:
        raise SpecError(f"{folder} waits for an answer of another authority; remove it, or name another --identity.")
    write_surroundings(folder, token.authority, broker=token.broker, blobs=token.blobs)
    key = key_of(folder)
    (folder / INVITATION).unlink(missing_ok=True)
    write_secret(folder / INVITATION, token.pem, "token")
    passwords = (token.password, password_of(key))
    urls = [address_with(token.broker, token.name, word, folder, INVITATION) for word in passwords]
    request = ask(token.name, key, passwords[1], secret=token.secret)
    complete(folder, key, _exchange(token.name, request, urls, token.authority, wait_seconds, tell))
    return read_identity(folder)


def renew(folder: Path, wait_seconds: float, tell: Tell) -> Identity:
    """Ask for another certificate, for a new key; the one in use stays until the answer is here.

    Raises:
        SpecError: there is no identity, or nobody accepted in time.
        UntrustedError, BrokerRefused, BrokerUnavailable: as above.
    """
    present = read_identity(folder)
    folder = present.folder
    key = key_of(folder, NEXT)
    address = present.broker
    if not address:
        raise SpecError(f"{folder} says of no broker to ask at; this identity is renewed where it was made.")
    urls = [address_with(address, present.name, password_of(one), folder) for one in (present.key, key)]
    request = ask(present.name, key, password_of(key), present_key=present.key)
    complete(folder, key, _exchange(present.name, request, urls, present.authority, wait_seconds, tell), NEXT)
    return read_identity(folder)


def _exchange(
    name: str, request: bytes, urls: Sequence[str], authority: bytes, wait_seconds: float, tell: Tell
) -> Certificate:
    """Ask, and wait for the answer to this request.

    Args:
        urls: with the password that is good before the answer, and with the one that is good after it.
    """
    deadline = time.monotonic() + wait_seconds
    clients = [connect(url, timeout_seconds=10) for url in urls]
    wanted = read_request(request, name).public_key
    asked = False
    try:
        while True:
            refusal: BrokerRefused | None = None
            for client in clients:
                try:
                    answer = mailbox.read_answer(client, name)
                    if answer is not None:
                        certificate = read_certificate(answer, authority)
                        if certificate.public_key == wanted:
                            return certificate
                    if not asked:
                        tell(_ASKED[mailbox.post_request(client, name, request)].format(name=name))
                        asked = True
                    refusal = None
                    break
                except BrokerRefused as error:
                    refusal = error
            if refusal is not None:
                raise BrokerRefused(
                    f"the broker does not let {name} in: the token was used, has expired or was replaced, or the "
                    f"device was revoked ({refusal})"
                )
            if time.monotonic() >= deadline:
                raise SpecError(
                    f"nobody has let {name} in within {wait_seconds:g} s; the same command goes on waiting, and "
                    f"`fedtide device accept {name}` answers it."
                )
            time.sleep(POLL_SECONDS)
    except BrokerUnavailable as error:
        if isinstance(error, BrokerRefused):
            raise
        raise BrokerUnavailable(f"{error} The same command goes on where this one ended.") from error
    finally:
        for client in clients:
            client.close()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
