"""What an authority keeps of its members: one private file each, read as it was written, or said to be damaged."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from coordinator.enrolment.members import Member, Members
from fl_core.errors import SpecError
from fl_core.identity.certificates import Role

PI = Member("pi", Role.DEVICE, "invited", queues=("phone", "lab"), days=10.0, secret="ab", token_expires_ms=7)


def test_a_member_is_read_as_it_was_kept(tmp_path: Path) -> None:
    """With its types; all of them in the order of their names, and nobody where there is no folder yet."""
    members = Members(tmp_path / "members")
    assert list(members) == []
    boss = members.put(Member("boss", Role.OPERATOR, "enrolled"))
    members.put(PI)
    assert list(members) == [boss, PI]
    assert (members.find("pi"), members.get("pi"), members.find("other")) == (PI, PI, None)


def test_a_change_is_kept(tmp_path: Path) -> None:
    """What was not named stays."""
    members = Members(tmp_path)
    changed = members.change(members.put(PI), state="enrolled", secret="")
    assert members.get("pi") == changed == Member(
        "pi", Role.DEVICE, "enrolled", queues=("phone", "lab"), days=10.0, token_expires_ms=7
    )  # fmt: skip


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    """A token's secret stands in it."""
    Members(tmp_path / "members").put(PI)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "members").rglob("*")}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "members").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["../pi", "a/b", "", "pi\n", "x" * 500])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    """It comes from a command line and becomes a file's."""
    (tmp_path / "pi.json").write_text("{}")
    with pytest.raises(SpecError, match="name"):
        Members(tmp_path / "members").find(name)


def test_who_is_none_is_a_sentence(tmp_path: Path) -> None:
    """It says where the members are shown."""
    with pytest.raises(SpecError, match="pi is no member of this federation; `fedtide device list`"):
        Members(tmp_path).get("pi")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"name": "pi", "role": "king", "state": "enrolled", "queues": []}',
        '{"name": "pi", "role": "device", "queues": []}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_a_sentence(tmp_path: Path, text: str) -> None:
    """It names the file; nobody is taken for no member because of it."""
    (tmp_path / "pi.json").write_text(text)
    for look in (lambda: Members(tmp_path).find("pi"), lambda: list(Members(tmp_path))):
        with pytest.raises(SpecError, match=r"pi\.json is damaged"):
            look()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """It names the folder."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpecError, match=r"file/members cannot be written"):
        Members(tmp_path / "file" / "members").put(PI)
