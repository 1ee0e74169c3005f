"""What a resume knows of the commits that were sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.storage import last_commit
from coordinator.storage.last_commit import LastCommit


def test_a_killed_program_leaves_its_last_commit(tmp_path: Path) -> None:
    """It is of one incarnation, and shorter numbers leave nothing of longer ones behind."""
    one = LastCommit(tmp_path / "last")
    assert one.read("a") is None
    for commits in (99_999, 7):
        one.note("a", commits)
        assert LastCommit(tmp_path / "last").read("a") == commits
        assert LastCommit(tmp_path / "last").read("b") is None


@pytest.mark.parametrize(("in_order", "known"), [(True, 7), (False, None)])
def test_after_a_restart_of_the_machine_only_an_end_in_order_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_order: bool, known: int | None
) -> None:
    one = LastCommit(tmp_path / "last")
    one.note("a", 7)
    if in_order:
        one.close()
    monkeypatch.setattr(last_commit, "_boot", lambda: "another")
    assert LastCommit(tmp_path / "last").read("a") == known


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"epoch":"a","commits":"x","boot":"any"}'])
def test_a_damaged_one_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last").write_bytes(content)
    assert LastCommit(tmp_path / "last").read("a") is None


def test_one_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    one = LastCommit(tmp_path / "no" / "folder")
    one.note("a", 7)
    one.close()
    assert one.read("a") is None
