"""Keys, certificates, revocations and identities: what is signed by whom, and what anybody else can make of it."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_core.errors import CampaignError, SpecError, UntrustedError
from fl_core.identity.certificates import Role, issue, make_authority, read_certificate
from fl_core.identity.domain import Domain
from fl_core.identity.enrolment import ask, read_request
from fl_core.identity.folder import (
    NEXT,
    complete,
    key_of,
    password_of,
    read_identity,
    write_surroundings,
)
from fl_core.identity.keys import is_signed, make_key, public_bytes, read_secret, sign
from fl_core.identity.revocations import read_revocations, sign_revocations
from fl_core.identity.signer import Operator
from fl_core.identity.token import SECRET_BYTES, Token

NOW = datetime.datetime.now(datetime.UTC)
KEY, OTHER_KEY = make_key(), make_key()
AUTHORITY, OTHER_AUTHORITY = make_authority(KEY, "ours", NOW), make_authority(OTHER_KEY, "ours", NOW)
DEVICE_KEY = make_key()


def certificate_of(name: str = "dev-1", role: Role = Role.DEVICE, days: float = 10.0, **more: object) -> bytes:
    return issue(
        KEY,
        AUTHORITY,
        name=name,
        role=role,
        public_key=public_bytes(DEVICE_KEY),
        now=NOW,
        days=days,
        **more,  # type: ignore[arg-type]
    )


@given(st.binary(max_size=200), st.binary(max_size=200), st.sampled_from(Domain), st.sampled_from(Domain))
def test_a_signature_is_good_for_its_bytes_and_its_purpose(
    data: bytes, other: bytes, domain: Domain, used: Domain
) -> None:
    """It stands for nothing else, and any bytes may be offered in its place."""
    signature = sign(KEY, domain, data)
    assert is_signed(public_bytes(KEY), used, other, signature) == (data == other and domain == used)
    assert not is_signed(public_bytes(OTHER_KEY), domain, data, signature)
    assert not is_signed(public_bytes(KEY), domain, data, other)
    assert not is_signed(other, domain, data, signature)


def test_a_certificate_says_what_the_authority_said() -> None:
    """Name, role, queues, key and time; and it holds for a clock that is two days off."""
    read = read_certificate(certificate_of(queues=("phone", "lab")), AUTHORITY)
    assert (read.name, read.role, read.queues) == ("dev-1", Role.DEVICE, ("phone", "lab"))
    assert read.public_key == public_bytes(DEVICE_KEY)
    day, now = 24 * 3600 * 1000, NOW.timestamp() * 1000
    assert all(read.is_current(now + shift * day) for shift in (-2, 0, 2))
    assert not read.is_current(now + 11 * day)


def test_nobody_else_can_say_it() -> None:
    """Not an authority of the same name, not a device with its own certificate, and no bytes that were changed."""
    der = certificate_of()
    with pytest.raises(UntrustedError, match="not issued by this authority"):
        read_certificate(der, OTHER_AUTHORITY)
    made_by_device = issue(
        DEVICE_KEY, der, name="dev-2", role=Role.COORDINATOR, public_key=public_bytes(DEVICE_KEY), now=NOW, days=1
    )
    for trusted in (AUTHORITY, OTHER_AUTHORITY):
        with pytest.raises(UntrustedError):
            read_certificate(made_by_device, trusted)
    for at in range(0, len(der), 7):
        changed = der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :]
        with pytest.raises(UntrustedError):
            read_certificate(changed, AUTHORITY)
    with pytest.raises(UntrustedError, match="larger than"):
        read_certificate(b"0" * 10_000, AUTHORITY)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_one_way(data: bytes) -> None:
    """Certificates, revocation lists and requests come from the network."""
    for read in (read_certificate, read_revocations):
        with pytest.raises(UntrustedError):
            read(data, AUTHORITY)
    with pytest.raises(UntrustedError):
        read_request(data, "dev-1")


def test_revocations_are_numbered_and_signed() -> None:
    """An older list is known by its number, and nobody else can sign one."""
    serial = read_certificate(certificate_of(), AUTHORITY).serial
    signed = sign_revocations(KEY, AUTHORITY, 7, [serial, 3], NOW)
    assert read_revocations(signed, AUTHORITY).number == 7
    assert read_revocations(signed, AUTHORITY).serials == {serial, 3}
    assert read_revocations(sign_revocations(KEY, AUTHORITY, 0, [], NOW), AUTHORITY).serials == frozenset()
    with pytest.raises(UntrustedError):
        read_revocations(sign_revocations(OTHER_KEY, OTHER_AUTHORITY, 8, [], NOW), AUTHORITY)


def test_a_token_survives_its_journey_or_says_that_it_did_not() -> None:
    """Line breaks do no harm; a part of it, or another word, is refused in one sentence."""
    token = Token(
        name="dev-1", broker="rediss://broker:6380/0", blobs="", authority=AUTHORITY, password="once", pem=b"pem",
        secret=bytes(SECRET_BYTES), expires_ms=1,
    )  # fmt: skip
    text = token.to_text()
    wrapped = "\n  ".join(text[start : start + 60] for start in range(0, len(text), 60))
    assert Token.from_text(f" {wrapped}\n") == token
    for damaged in (text[:-9], text[:30], text.replace("fedtide-", ""), "", text + "AAAA", "fedtide-é"):
        with pytest.raises(SpecError, match="token"):
            Token.from_text(damaged)


def test_a_request_is_for_its_own_name_and_from_who_has_the_secret() -> None:
    """Or the present key; a thief of neither cannot make one, nor change the password in one."""
    secret = bytes(range(32))
    asked = read_request(ask("dev-1", DEVICE_KEY, "mine", secret=secret), "dev-1")
    assert asked.public_key == public_bytes(DEVICE_KEY)
    assert asked.has_secret(secret)
    assert not asked.has_secret(bytes(32))
    assert not asked.has_key(public_bytes(DEVICE_KEY))
    renewed = read_request(ask("dev-1", OTHER_KEY, "mine", present_key=DEVICE_KEY), "dev-1")
    assert renewed.has_key(public_bytes(DEVICE_KEY))
    assert not renewed.has_key(public_bytes(OTHER_KEY))
    with pytest.raises(UntrustedError, match="another name"):
        read_request(ask("dev-2", DEVICE_KEY, "mine", secret=secret), "dev-1")


def make_folder(folder: Path, days: float = 10.0) -> Path:
    write_surroundings(folder, AUTHORITY, broker="rediss://broker:6380/0", blobs=":6381")
    key = key_of(folder)
    der = issue(KEY, AUTHORITY, name="dev-1", role=Role.DEVICE, public_key=public_bytes(key), now=NOW, days=days)
    complete(folder, key, read_certificate(der, AUTHORITY))
    return folder


def test_an_identity_reaches_the_broker_as_its_user(tmp_path: Path) -> None:
    """With the key's own password, and with the certificate where there is TLS; a user in the address stays."""
    identity = read_identity(make_folder(tmp_path / "id"))
    assert (identity.name, identity.blobs) == ("dev-1", ":6381")
    url = identity.url()
    assert url.startswith(
        f"rediss://dev-1:{password_of(identity.key)}@broker:6380/0?ssl_cert_reqs=required&ssl_ca_certs="
    )
    assert "ssl_certfile" in url and "ssl_keyfile" in url
    assert (
        identity.url("redis://admin:hunting-owl@localhost/0", as_user=False) == "redis://admin:hunting-owl@localhost/0"
    )
    assert identity.url("redis://127.0.0.1:1/0") == f"redis://dev-1:{password_of(identity.key)}@127.0.0.1:1/0"
    for plain in ("redis://broker/0", "redis://admin:hunting-owl@broker/0"):
        with pytest.raises(SpecError, match="has no TLS"):
            identity.url(plain)
    assert stat.S_IMODE((tmp_path / "id" / "identity.pem").stat().st_mode) == 0o600


def test_an_identity_that_cannot_be_used_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not there, open to others, of another authority, run out, without a certificate yet."""
    with pytest.raises(SpecError, match="holds no identity"):
        read_identity(tmp_path / "nowhere")
    folder = make_folder(tmp_path / "open")
    (folder / "identity.pem").chmod(0o644)
    with pytest.raises(SpecError, match="can be read by others"):
        read_identity(folder)
    with pytest.raises(UntrustedError, match=r"by this machine's clock, .* has expired .* set the clock"):
        read_identity(make_folder(tmp_path / "old", days=-1))
    monkeypatch.setattr("fl_core.identity.folder.time.time", lambda: NOW.timestamp() - 4 * 24 * 3600)
    with pytest.raises(UntrustedError, match=r"by this machine's clock, .* is not good yet \(it is good from 20"):
        read_identity(make_folder(tmp_path / "early"))
    monkeypatch.undo()
    folder = make_folder(tmp_path / "other")
    write_surroundings(folder, OTHER_AUTHORITY, broker="", blobs="")
    with pytest.raises(UntrustedError, match="not issued by this authority"):
        read_identity(folder)
    write_surroundings(tmp_path / "waiting", AUTHORITY, broker="", blobs="")
    key_of(tmp_path / "waiting")
    with pytest.raises(SpecError, match="no certificate yet"):
        read_identity(tmp_path / "waiting")
    with pytest.raises(CampaignError, match="dev-1 is a device, and campaigns do what operators ask"):
        Operator(make_folder(tmp_path / "device")).seal(Domain.CONTROL, b"stop")


@pytest.mark.parametrize(
    ("owner", "mode", "refused"),
    [(0, 0o440, False), (0, 0o400, False), (0, 0o444, True), (0, 0o460, True), (1000, 0o440, True)],
)
def test_what_root_hands_over_by_its_group_is_private(
    owner: int, mode: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd's credentials and a cluster's mounted secrets are; not what others read, or the group writes."""
    path = make_folder(tmp_path / "id") / "identity.pem"
    status = SimpleNamespace(st_mode=stat.S_IFREG | mode, st_uid=owner)
    monkeypatch.setattr(Path, "stat", lambda path: status)
    monkeypatch.setattr("fl_core.identity.keys.os.getuid", lambda: 1000)
    if refused:
        with pytest.raises(SpecError, match="can be read by others"):
            read_secret(path, "identity")
    else:
        assert read_secret(path, "identity")
    monkeypatch.undo()


def test_another_certificate_takes_the_place_of_the_first_in_one_step(tmp_path: Path) -> None:
    """Until it is there the first one stays; one for another key is not taken."""
    folder = make_folder(tmp_path / "id")
    before = read_identity(folder)
    key = key_of(folder, NEXT)
    assert public_bytes(key_of(folder, NEXT)) == public_bytes(key)
    with pytest.raises(UntrustedError, match="another key"):
        complete(folder, key, before.certificate, NEXT)
    assert read_identity(folder).certificate == before.certificate
    der = issue(KEY, AUTHORITY, name="dev-1", role=Role.DEVICE, public_key=public_bytes(key), now=NOW, days=1)
    complete(folder, key, read_certificate(der, AUTHORITY), NEXT)
    after = read_identity(folder)
    assert after.certificate.serial != before.certificate.serial
    assert password_of(after.key) != password_of(before.key)
    assert not (folder / NEXT).exists()
