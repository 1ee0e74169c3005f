"""An authority: made once, opened by whoever has its key, and what it has signed and taken back."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from coordinator.enrolment.authority import Authority, create_authority, now_ms, open_authority
from coordinator.enrolment.members import Member
from fl_core.errors import SpecError, UntrustedError
from fl_core.identity.certificates import Role, read_certificate
from fl_core.identity.enrolment import password_hash
from fl_core.identity.folder import password_of, read_identity
from fl_core.identity.keys import make_key, public_bytes
from fl_core.identity.revocations import read_revocations


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "authority", "ours")


def test_it_is_opened_as_it_was_made(authority: Authority) -> None:
    """The same key and certificate, nobody in it, nothing taken back; and it is for its owner alone."""
    again = open_authority(authority.folder)
    assert (public_bytes(again.key), again.certificate) == (public_bytes(authority.key), authority.certificate)
    assert (list(again.members), again.revocations().number, again.revocations().serials) == ([], 0, frozenset())
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((authority.folder / "authority.key").stat().st_mode) == 0o600


def test_one_is_never_made_over_another(authority: Authority) -> None:
    """Its key would be gone, and every member with it."""
    key = (authority.folder / "authority.key").read_bytes()
    with pytest.raises(SpecError):
        create_authority(authority.folder, "ours")
    assert (authority.folder / "authority.key").read_bytes() == key


def test_what_is_none_or_is_open_to_others_is_refused(authority: Authority, tmp_path: Path) -> None:
    """One sentence each, with what to do."""
    with pytest.raises(
        SpecError, match=r"nothing is no authority's folder; `fedtide authority init nothing` makes one"
    ):
        open_authority(tmp_path / "nothing")
    (authority.folder / "authority.key").chmod(0o644)
    with pytest.raises(SpecError, match=r"authority\.key"):
        open_authority(authority.folder)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpecError, match="file"):
        create_authority(tmp_path / "file" / "authority", "ours")
    with pytest.raises(SpecError, match="name"):
        create_authority(tmp_path / "other", "../ours")


def test_a_certificate_says_who_somebody_is(authority: Authority, tmp_path: Path) -> None:
    """For so many days; another authority's is none."""
    key = public_bytes(make_key())
    made = authority.issue("pi", Role.DEVICE, key, 10.0, queues=["phone"])
    assert (made.name, made.role, made.queues, made.public_key) == ("pi", Role.DEVICE, ("phone",), key)
    assert made.is_current(now_ms()) and not made.is_current(now_ms() + 12 * 24 * 3600 * 1000)
    assert read_certificate(made.der, authority.certificate) == made
    with pytest.raises(UntrustedError):
        read_certificate(made.der, create_authority(tmp_path / "other", "ours").certificate)


def test_an_identity_is_a_folder_to_be_carried_away(authority: Authority) -> None:
    """The member's record has of the password only what the servers check it with."""
    member, folder = authority.make_identity("boss", Role.OPERATOR, 10.0, broker="rediss://broker:6379/0")
    identity = read_identity(folder)
    assert (identity.name, identity.certificate.role) == ("boss", Role.OPERATOR)
    assert identity.url().startswith("rediss://boss:")
    assert member == authority.members.get("boss")
    assert (member.state, member.serial) == ("enrolled", f"{identity.certificate.serial:x}")
    assert bytes.fromhex(member.password_hash) == password_hash(password_of(identity.key))
    assert password_of(identity.key) not in (authority.folder / "members" / "boss.json").read_text()


def test_a_name_is_taken_until_its_member_is_revoked(authority: Authority) -> None:
    """Nobody gets another's name; the sentence says who has it."""
    authority.members.put(Member("pi", Role.DEVICE, "invited"))
    with pytest.raises(SpecError, match=r"pi is a member already \(device, invited\); choose another name"):
        authority.make_identity("pi", Role.MONITOR, 1.0)
    authority.members.change(authority.members.get("pi"), state="revoked")
    assert authority.make_identity("pi", Role.MONITOR, 1.0)[0].role is Role.MONITOR


def test_what_was_taken_back_stays_so(authority: Authority) -> None:
    """Each list has the next number, and one that says nothing new is not written."""
    assert authority.take_back([5]).number == 1
    signed = authority.revocation_list()
    assert authority.take_back([5]).number == 1
    assert authority.revocation_list() == signed
    both = authority.take_back([9])
    assert (both.number, both.serials) == (2, {5, 9})
    assert read_revocations(authority.revocation_list(), authority.certificate) == both == authority.revocations()
    (authority.folder / "revocations.crl").unlink()
    with pytest.raises(SpecError, match=r"revocations\.crl cannot be read"):
        authority.take_back([11])
