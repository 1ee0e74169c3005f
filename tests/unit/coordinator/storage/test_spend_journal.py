"""The spend journal: what was written is read, whoever wrote it and however the writing ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.storage.checkpoint_files import LocalFiles, RemoteFiles
from coordinator.storage.spend_journal import SpendJournal
from fl_core.errors import CampaignError
from fl_core.privacy.spend import Spend


def spend(version: int, **costs: float) -> Spend:
    """One merge's."""
    return Spend(version=version, release=f"{version:064x}", costs=costs)


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_each_fence_has_a_segment_and_all_are_read(kind: str, tmp_path: Path) -> None:
    """On a local disk and behind fsspec; nothing is written twice."""
    files: Any = LocalFiles(tmp_path) if kind == "local" else RemoteFiles(f"memory://{tmp_path.name}")
    first, second = SpendJournal(files, 1), SpendJournal(files, 12)
    first.note([spend(1, a=0.5), spend(2, b=0.25)])
    first.sync()
    first.sync()
    second.note([spend(2, a=1.0)])
    second.sync()
    first.note([spend(3, a=1.0)])
    first.sync()
    assert SpendJournal(files, 13).read() == [spend(1, a=0.5), spend(2, b=0.25), spend(3, a=1.0), spend(2, a=1.0)]
    assert sorted(files.names()) == ["spent-000001.jsonl", "spent-000012.jsonl"]


def test_what_was_not_written_whole_was_never_shown(tmp_path: Path) -> None:
    """A disk that is full in the middle of a line: the next try is on a line of its own."""
    files = LocalFiles(tmp_path)
    journal = SpendJournal(files, 1)
    journal.note([spend(1, a=0.5)])
    append = files.append

    def torn(name: str, data: bytes) -> None:
        append(name, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    files.append = torn  # type: ignore[method-assign]
    with pytest.raises(CampaignError, match="free space or mend it"):
        journal.sync()
    assert SpendJournal(LocalFiles(tmp_path), 2).read() == []
    files.append = append  # type: ignore[method-assign]
    journal.note([spend(2, a=0.5)])
    journal.sync()
    assert SpendJournal(LocalFiles(tmp_path), 2).read() == [spend(1, a=0.5), spend(2, a=0.5)]


def test_nobody_else_on_the_machine_reads_it(tmp_path: Path) -> None:
    """It names devices."""
    journal = SpendJournal(LocalFiles(tmp_path), 1)
    journal.note([spend(1, a=0.5)])
    journal.sync()
    assert (tmp_path / "spent-000001.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("line", ["{}", "[]", "7", '{"version": 1, "release": "a", "costs": {"a": -1}}', "{", "null"])
def test_a_line_that_is_none_is_told_and_left_out(line: str, tmp_path: Path) -> None:
    """And the others count."""
    (tmp_path / "spent-000001.jsonl").write_text(f'{line}\n{{"version":1,"release":"a","costs":{{"a":0.5}}}}\n')
    assert SpendJournal(LocalFiles(tmp_path), 2).read() == [Spend(version=1, release="a", costs={"a": 0.5})]
