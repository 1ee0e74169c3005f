"""Devices come and go at a real server: invited, let in, renewed, sent away; and nobody else comes in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from coordinator.enrolment import devices
from coordinator.enrolment.authority import Authority, create_authority, open_authority
from coordinator.enrolment.devices import Accepted
from coordinator.enrolment.servers import Servers, sync_users
from coordinator.monitor.members import read_published
from fl_core.broker.access import mailbox
from fl_core.broker.access.rules import MEMBERS
from fl_core.broker.connection import connect
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.errors import BrokerRefused, SpecError
from fl_core.identity.enrolment import ask
from fl_core.identity.folder import Identity, password_of, read_identity
from fl_core.identity.keys import make_key
from fl_core.identity.revocations import read_revocations
from fl_core.identity.token import Token
from workers.identity import enrolment


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "authority", "ours")


@pytest.fixture
def servers(client: redis.Redis) -> Iterator[Servers]:
    """The server without any users but its own, before and after."""
    yield Servers((client,))
    others = {name.decode() for name in client.execute_command("ACL", "USERS")} - {"default"}
    if others:
        client.execute_command("ACL", "DELUSER", *others)


@pytest.fixture
def invite(authority: Authority, servers: Servers, broker_server: EmbeddedServer) -> Callable[..., Token]:
    def make(name: str = "dev-1", **more: float) -> Token:
        (token,) = devices.invite(
            authority, servers, [name], broker=broker_server.url, blobs="", queues=["phone"], days=10, **more
        )
        return token

    return make


def enrol(authority: Authority, servers: Servers, token: Token, folder: Path) -> Identity:
    """What device and authority do, at the same time."""
    found: list[Identity] = []
    thread = threading.Thread(target=lambda: found.append(enrolment.enroll(token, folder, 20, lambda said: None)))
    thread.start()
    while thread.is_alive() and not devices.accept(authority, servers, [token.name]):
        time.sleep(0.05)
    thread.join()
    return found[0]


def reaches(url: str) -> bool:
    try:
        with connect(url) as other:
            return bool(other.ping())
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
        return False


def test_a_device_is_let_in_renewed_and_sent_away(
    authority: Authority, servers: Servers, invite: Callable[..., Token], client: redis.Redis, tmp_path: Path
) -> None:
    """Its password changes with its key; the one before is good while a task may be under way."""
    token = invite()
    identity = enrol(authority, servers, token, tmp_path / "id")
    assert (identity.name, identity.certificate.queues) == ("dev-1", ("phone",))
    assert reaches(identity.url())
    assert not reaches(identity.url().replace(password_of(identity.key), token.password))

    assert devices.accept(authority, servers) == []
    devices.rotate(authority, ["dev-1"])
    found: list[Identity] = []
    thread = threading.Thread(target=lambda: found.append(enrolment.renew(tmp_path / "id", 20, lambda said: None)))
    thread.start()
    while thread.is_alive() and not devices.accept(authority, servers):
        time.sleep(0.05)
    thread.join()
    (renewed,) = found
    assert renewed.certificate.serial != identity.certificate.serial
    assert read_identity(tmp_path / "id").certificate == renewed.certificate
    assert reaches(renewed.url()) and reaches(identity.url())
    authority.members.change(authority.members.get("dev-1"), retires_ms=1)
    devices.retire(authority, servers)
    assert reaches(renewed.url()) and not reaches(identity.url())

    with connect(renewed.url()) as inside:
        inside.ping()
        assert "dev-1" in {row["user"] for row in client.client_list()}
        devices.revoke(authority, servers, ["dev-1"])
        assert "dev-1" not in {row["user"] for row in client.client_list()}
    assert not reaches(renewed.url())
    with connect(renewed.url()) as outside:  # it may learn why, and no more
        assert mailbox.read_revocation_list(outside) == mailbox.read_revocation_list(client)
        for words in (("PING",), ("BRPOP", "fedtide.train.phone", "0.1"), ("SET", "fedtide:enrol:dev-1", "x")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                outside.execute_command(*words)
    authority.members.change(authority.members.get("dev-1"), not_after_ms=1)
    sync_users(authority, servers)
    assert {name.decode() for name in client.execute_command("ACL", "USERS")} == {"default"}
    published = mailbox.read_revocation_list(client)
    assert published is not None
    revoked = read_revocations(published, authority.certificate)
    assert revoked.serials == {identity.certificate.serial, renewed.certificate.serial}
    assert revoked.number == 2


def test_a_token_is_used_once(
    authority: Authority, servers: Servers, invite: Callable[..., Token], tmp_path: Path
) -> None:
    """Not again by its device, not by another one, and not after another token was made or its time is over."""
    token = invite()
    enrol(authority, servers, token, tmp_path / "id")
    with pytest.raises(SpecError, match="enrolled device"):
        enrolment.enroll(token, tmp_path / "id", 1, lambda said: None)
    with pytest.raises(BrokerRefused, match="token was used"):
        enrolment.enroll(token, tmp_path / "thief", 1, lambda said: None)
    with pytest.raises(SpecError, match="is a member already"):
        invite()
    first, second = invite("dev-2"), invite("dev-2")
    with pytest.raises(BrokerRefused):
        enrolment.enroll(first, tmp_path / "late", 1, lambda said: None)
    authority.members.change(authority.members.get("dev-2"), token_expires_ms=1)
    with pytest.raises(SpecError, match="nobody has let dev-2 in"):
        enrolment.enroll(second, tmp_path / "later", 0, lambda said: None)
    (outcome,) = devices.accept(authority, servers)
    assert "has expired" in outcome.refused
    assert authority.members.get("dev-2").state == "invited"


def test_who_does_not_have_the_token_gets_nothing(
    authority: Authority, servers: Servers, invite: Callable[..., Token], client: redis.Redis
) -> None:
    """Rubbish, a request for another name, one with another secret: each refused by name, and nobody is let in."""
    token = invite()
    forged = ask("dev-1", make_key(), "mine", secret=bytes(32))
    for request in (b"rubbish", b"", forged, ask("dev-2", make_key(), "mine", secret=token.secret), b"x" * 100_000):
        client.delete("fedtide:enrol:dev-1")
        assert mailbox.post_request(client, "dev-1", request)
        assert [one.name for one in devices.accept(authority, servers) if one.refused] == (["dev-1"] if request else [])
        assert authority.members.get("dev-1").state == "invited"
    with pytest.raises(SpecError, match="no member"):
        devices.accept(authority, servers, ["nobody"])


def test_an_answer_that_got_lost_is_given_again(
    authority: Authority, servers: Servers, invite: Callable[..., Token], client: redis.Redis, tmp_path: Path
) -> None:
    """The authority signed and was cut off; the device was switched off. The same commands complete what was begun."""
    token = invite()
    with pytest.raises(SpecError, match="nobody has let"):
        enrolment.enroll(token, tmp_path / "id", 0, lambda said: None)
    request = client.get("fedtide:enrol:dev-1")
    assert devices.accept(authority, servers) == [Accepted("dev-1")]
    first = authority.members.get("dev-1")
    client.delete("fedtide:enrolled:dev-1")
    client.set("fedtide:enrol:dev-1", request)  # type: ignore[arg-type]
    assert devices.accept(open_authority(authority.folder), servers) == [Accepted("dev-1")]
    assert authority.members.get("dev-1") == first
    assert enrolment.enroll(token, tmp_path / "id", 5, lambda said: None).certificate.der.hex() == first.certificate


def test_an_invited_device_can_do_nothing_else(invite: Callable[..., Token], client: redis.Redis) -> None:
    """Its one-time password opens one box to write to, and one to read."""
    token = invite()
    url = token.broker.replace("redis://", f"redis://dev-1:{token.password}@")
    client.set("fedtide:enrolled:dev-2", b"certificate")
    with connect(url) as invited:
        for words in (
            ("KEYS", "*"), ("GET", "fedtide:enrolled:dev-2"), ("SET", "fedtide:enrol:dev-2", "x"), ("INFO",),
            ("XADD", "fedtide:c:{a}:log", "*", "u", "x"), ("BRPOP", "fedtide.train.phone", "0.1"),
            ("SCRIPT", "LOAD", "return 1"), ("EVAL", "return 1", "0"), ("ACL", "LIST"), ("CONFIG", "GET", "*"),
        ):  # fmt: skip
            with pytest.raises(redis.exceptions.NoPermissionError):
                invited.execute_command(*words)


def test_users_are_set_again_on_a_server_that_forgot_them(
    authority: Authority, servers: Servers, invite: Callable[..., Token], client: redis.Redis, tmp_path: Path
) -> None:
    """Those who belong to it, as they were; and nobody who was sent away."""
    authority.make_identity("boss", devices.Role.OPERATOR, 10)
    identity = enrol(authority, servers, invite(), tmp_path / "id")
    enrol(authority, servers, invite("dev-2"), tmp_path / "id2")
    devices.revoke(authority, servers, ["dev-2"])
    client.execute_command("ACL", "DELUSER", "dev-1", "boss")
    assert not reaches(identity.url())
    assert sync_users(authority, servers) == (3, False)
    assert reaches(identity.url()) and not reaches(read_identity(tmp_path / "id2").url())
    assert {name.decode() for name in client.execute_command("ACL", "USERS")} == {"default", "dev-1", "dev-2", "boss"}


def test_a_fleet_is_enrolled_at_once(
    authority: Authority, servers: Servers, broker_server: EmbeddedServer, client: redis.Redis, tmp_path: Path
) -> None:
    """As `benchmarks/enrolment.py` does with a thousand: all ask side by side, and few answers let all of them in."""
    names = [f"phone-{number}" for number in range(40)]
    tokens = devices.invite(authority, servers, names, broker=broker_server.url, blobs="", queues=["phone"], days=10)
    began = time.monotonic()
    with ThreadPoolExecutor(len(names)) as pool:
        asking = [
            pool.submit(enrolment.enroll, token, tmp_path / token.name, 30, lambda said: None) for token in tokens
        ]
        accepted: list[Accepted] = []
        while len(accepted) < len(names) and not any(one.done() and one.exception() for one in asking):
            accepted += devices.accept(authority, servers)
            time.sleep(0.05)
    assert {one.result().name for one in asking} == set(names)
    assert time.monotonic() - began < 15
    assert len(client.execute_command("ACL", "USERS")) == 41
    devices.revoke(authority, servers, names)
    assert not any(reaches(one.result().url()) for one in asking[:5])


def test_who_watches_learns_who_is_a_member(
    authority: Authority, servers: Servers, invite: Callable[..., Token], tmp_path: Path
) -> None:
    """Invited, enrolled, taken back: proven by its certificate, and said again with the users."""
    token = invite()
    states = [read_published(servers.broker, authority.certificate).standing("dev-1")]
    enrol(authority, servers, token, tmp_path / "device")
    states.append(read_published(servers.broker, authority.certificate).standing("dev-1"))
    devices.revoke(authority, servers, ["dev-1"])
    states.append(read_published(servers.broker, authority.certificate).standing("dev-1"))
    assert [state.state for state in states if state is not None] == ["invited", "expiring", "revoked"]
    servers.broker.delete(MEMBERS)
    sync_users(authority, servers)
    assert read_published(servers.broker, authority.certificate).standing("dev-1") == states[-1]
