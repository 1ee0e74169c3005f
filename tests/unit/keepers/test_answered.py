"""What was answered stays known, whole, and on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fl_core.errors import SpecError
from keepers.answered import FILE, Answered

ONE, OTHER = b"1" * 32, b"2" * 32


def updates(*numbers: int) -> list[tuple[str, str, int]]:
    return [("trial-1", f"{number}-a", 1) for number in numbers]


def test_the_first_order_of_an_update_is_the_only_one(tmp_path: Path) -> None:
    """Another attempt or campaign is another update; a claim that fails notes nothing."""
    answered = Answered(tmp_path)
    assert answered.claim(updates(1, 2, 3), ONE)
    assert answered.claim(updates(1, 2, 3), ONE)
    assert not answered.claim(updates(3, 4, 5), OTHER)
    assert answered.claim(updates(4, 5), OTHER)
    assert answered.claim([("trial-1", "1-a", 2), ("trial-2", "1-a", 1)], OTHER)
    answered.close()
    again = Answered(tmp_path)
    assert not again.claim(updates(1), OTHER)
    assert again.claim(updates(1), ONE)


def test_more_updates_than_one_question_holds(tmp_path: Path) -> None:
    """The last one of many is found as well."""
    answered = Answered(tmp_path)
    assert answered.claim(updates(*range(2047)), ONE)
    assert not answered.claim(updates(2046), OTHER)


def test_two_processes_of_one_keeper_share_the_notes(tmp_path: Path) -> None:
    """What one has claimed, the other refuses."""
    one, other = Answered(tmp_path), Answered(tmp_path)
    assert one.claim(updates(1), ONE)
    assert not other.claim(updates(1), OTHER)


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    """It tells which updates were summed."""
    Answered(tmp_path / "state")
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o077 == 0


def test_what_cannot_be_noted_is_not_answered(tmp_path: Path) -> None:
    """A damaged file, or one that cannot be written: one sentence with the remedy."""
    (tmp_path / FILE).write_bytes(b"this is no database, and long enough to be taken for one" * 100)
    with pytest.raises(SpecError, match=r"cannot be used .* --state-dir"):
        Answered(tmp_path)
    if os.getuid():
        pytest.skip("needs a user who may write anywhere, or a place where nobody may")
    with pytest.raises(SpecError, match="cannot be used"):
        Answered(Path("/proc/1/nowhere"))
