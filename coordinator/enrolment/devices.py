"""Devices come and go: invited, accepted, renewed, revoked. What the authority decides, the servers' users follow."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.enrolment.authority import Authority, now_ms
from coordinator.enrolment.members import Member
from coordinator.enrolment.servers import Servers
from fl_core.broker.access import mailbox
from fl_core.errors import SpecError, UntrustedError
from fl_core.identity.certificates import Role
from fl_core.identity.enrolment import password_hash, read_request
from fl_core.identity.keys import key_pem, make_key, public_bytes
from fl_core.identity.token import SECRET_BYTES, Token
from fl_core.names import check_name

TOKEN_HOURS = 24.0
# A certificate that was replaced is good for so long: a task may be under way that is signed with its key.
RETIRES_SECONDS = 24 * 3600.0
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a request.

    Attributes:
        name: of the device.
        refused: why it was not accepted; empty if it was.
    """

    name: str
    refused: str = ""


def invite(
    authority: Authority,
    servers: Servers,
    names: Sequence[str],
    *,
    broker: str,
    blobs: str,
    queues: Sequence[str],
    days: float,
    hours: float = TOKEN_HOURS,
) -> list[Token]:
    """Make a token for each name.

    Args:
        broker, blobs: as the devices will reach them, without user and password.
        queues: the classes that they may serve.
        days: how long their certificates will be good.
        hours: how long the tokens are.

    Raises:
        SpecError: a name is none or is taken by a member that is enrolled.
        BrokerRefused, BrokerUnavailable: the servers' users could not be set; the same command again goes on.
    """
    for what, words in (("name", names), ("queue", queues)):
        for word in words:
            check_name(what, word)
    for name in names:
        known = authority.members.find(name)
        if known is not None and known.state == "enrolled":
            raise SpecError(f"{name} is a member already; revoke it first, or choose another name.")
    expires = now_ms() + round(hours * _HOUR_MS)
    tokens, members = [], []
    for name in dict.fromkeys(names):
        password, secret, key = secrets.token_urlsafe(SECRET_BYTES), secrets.token_bytes(SECRET_BYTES), make_key()
        guest = authority.issue(name, Role.INVITED, public_bytes(key), hours / 24)
        tokens.append(
            Token(
                name=name,
                broker=broker,
                blobs=blobs,
                authority=authority.certificate,
                password=password,
                pem=key_pem(key) + guest.pem,
                secret=secret,
                expires_ms=expires,
            )
        )
        members.append(
            Member(
                name,
                Role.DEVICE,
                "invited",
                tuple(queues),
                days,
                password_hash(password).hex(),
                secret=secret.hex(),
                token_expires_ms=expires,
            )
        )
    mailbox.drop_requests(servers.broker, names)
    mailbox.drop_answers(servers.broker, names)
    for member in members:
        authority.members.put(member)
    servers.set(members)
    servers.save()
    return tokens


def accept(authority: Authority, servers: Servers, names: Iterable[str] = ()) -> list[Accepted]:
    """Answer what has been asked: by devices that were invited, and by those that want another certificate.

    Args:
        names: only these; nobody means everybody.

    Raises:
        SpecError: a name is no member's.
        BrokerRefused, BrokerUnavailable: the servers could not be reached; the same call again goes on.
    """
    wanted = set(names)
    for name in wanted:
        authority.members.get(name)
    now = now_ms()
    devices = [
        member
        for member in authority.members
        if member.role is Role.DEVICE and member.state != "revoked" and (not wanted or member.name in wanted)
    ]
    requests = mailbox.read_requests(servers.broker, [member.name for member in devices])
    outcome, accepted = [], []
    for member in devices:
        if (request := requests.get(member.name)) is None:
            continue
        try:
            accepted.append(_admit(authority, member, request, now))
            outcome.append(Accepted(member.name))
        except UntrustedError as error:
            outcome.append(Accepted(member.name, str(error)))
    # First the answers, which the old password still reads, then the rights, and last the requests: until then the same
    # call gives the same answers.
    mailbox.post_answers(servers.broker, {member.name: bytes.fromhex(member.certificate) for member in accepted})
    servers.set(accepted)
    mailbox.drop_requests(servers.broker, [one.name for one in outcome])
    if accepted:
        servers.save()
    retire(authority, servers)
    return outcome


def revoke(authority: Authority, servers: Servers, names: Sequence[str]) -> None:
    """Take back certificates and users: connections end at once, and no update of theirs is taken any more.

    Raises:
        SpecError: a name is no member's.
        BrokerRefused, BrokerUnavailable: the servers could not be reached; the same call again goes on.
    """
    members = [authority.members.get(name) for name in names]
    serials = [int(word, 16) for member in members for word in (member.serial, member.retiring) if word]
    authority.take_back(serials)
    for member in members:
        authority.members.change(member, state="revoked", secret="", renewal_until_ms=0, retiring="")
    mailbox.publish_revocations(servers.broker, authority.revocation_list())
    servers.remove(names)  # this closes their connections, which a change of rights would not
    servers.set([authority.members.get(name) for name in names])
    servers.save()


def rotate(authority: Authority, names: Sequence[str], hours: float = TOKEN_HOURS) -> None:
    """Let devices have another certificate for a new key; ``fedtide-worker enroll --renew`` asks for it there.

    Raises:
        SpecError: a name is no enrolled device's.
    """
    members = [authority.members.get(name) for name in names]
    for member in members:
        if member.role is not Role.DEVICE or member.state != "enrolled":
            raise SpecError(f"{member.name} is no enrolled device ({member.role.value}, {member.state}).")
    for member in members:
        authority.members.change(member, renewal_until_ms=now_ms() + round(hours * _HOUR_MS))


def retire(authority: Authority, servers: Servers) -> None:
    """Revoke the certificates that were replaced a while ago."""
    now = now_ms()
    due = [member for member in authority.members if member.retiring and member.retires_ms <= now]
    if due:
        authority.take_back(int(member.retiring, 16) for member in due)
        for member in due:
            authority.members.change(member, retiring="", retires_ms=0, retiring_password_hash="")
        servers.set([authority.members.get(member.name) for member in due])
        servers.save()
        mailbox.publish_revocations(servers.broker, authority.revocation_list())


def _admit(authority: Authority, member: Member, request: bytes, now: int) -> Member:
    """Judge a request, and sign; one that was answered before gets the same answer.

    Raises:
        UntrustedError: it is not from this device, or came too late.
    """
    asked = read_request(request, member.name)
    if member.public_key == asked.public_key.hex() and member.password_hash == asked.password_hash.hex():
        return member
    if member.state == "invited":
        if now > member.token_expires_ms:
            raise UntrustedError(f"the token of {member.name} has expired; make another one with `fedtide device add`.")
        if not asked.has_secret(bytes.fromhex(member.secret)):
            raise UntrustedError(f"what asks in the name of {member.name} does not have its token.")
    elif now > member.renewal_until_ms:
        raise UntrustedError(
            f"{member.name} has a certificate; let it have another one with `fedtide device rotate {member.name}`."
        )
    elif not asked.has_key(bytes.fromhex(member.public_key)):
        raise UntrustedError(f"what asks in the name of {member.name} does not have its key.")
    certificate = authority.issue(member.name, Role.DEVICE, asked.public_key, member.days, queues=member.queues)
    return authority.members.change(
        member, state="enrolled", password_hash=asked.password_hash.hex(), serial=f"{certificate.serial:x}",
        public_key=asked.public_key.hex(), certificate=certificate.der.hex(), not_after_ms=certificate.not_after_ms,
        secret="", renewal_until_ms=0, retiring=member.serial,
        retires_ms=now + round(RETIRES_SECONDS * 1000) if member.serial else 0,
        retiring_password_hash=member.password_hash if member.serial else "",
    )  # fmt: skip
