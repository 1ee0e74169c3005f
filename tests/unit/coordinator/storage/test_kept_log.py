"""The log that is kept: what counts of which files, and what was there for each entry."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from coordinator.storage.kept_log import KeptLog, read_kept_log
from fl_core.errors import CampaignError, PayloadLost
from fl_core.wire.log_entry import LogEntry

ENTRY = LogEntry("5-1", "u", b"header", b"inline")


def fetch(name: str, num_bytes: int) -> memoryview:
    """One payload is there, the others are lost."""
    if name != "there":
        raise PayloadLost(name)
    return memoryview(b"p" * num_bytes)


def records(folder: Path, parts: Any) -> list[Any]:
    return list(read_kept_log(folder, parts))


def test_what_a_checkpoint_covers_counts_and_nothing_else(tmp_path: Path) -> None:
    """The first coordinator wrote on behind its last checkpoint; the second goes on from there, in another life."""
    first = KeptLog(tmp_path / "log", [], 1, b"a")
    kept = first.keeping(fetch)
    assert kept("there", 3) == b"ppp"
    with pytest.raises(PayloadLost):
        kept("gone", 3)
    first.note(ENTRY)
    parts = first.parts
    first.note(LogEntry("6-0", "u", b"too late", b""))
    second = KeptLog(tmp_path / "log", parts, 3, b"a")
    second.begin_life(b"b")
    second.note(LogEntry("7-0", "e", b"event", b"mac"))
    second.sync()
    first.note(LogEntry("8-0", "u", b"from one that woke up", b""))
    for one in (first, second):
        one.close()
    entry = ["entry", "5-1", "u", b"header", b"inline"]
    whole = [["life", b"a"], ["payload", "there", b"ppp"], ["lost", "gone"], entry, ["life", b"a"], ["life", b"b"]]
    assert records(tmp_path / "log", second.parts) == [*whole, ["entry", "7-0", "e", b"event", b"mac"]]
    assert stat.S_IMODE((tmp_path / "log" / "000003.log").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "1 bytes less"),
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(b"\xc1" * 100), "is damaged"),
    ],
)
def test_one_that_is_not_whole_is_one_sentence(tmp_path: Path, change: Any, said: str) -> None:
    one = KeptLog(tmp_path / "log", [], 1, b"a")
    one.note(ENTRY)
    one.close()
    change(tmp_path / "log" / "000001.log")
    with pytest.raises(CampaignError, match=said):
        records(tmp_path / "log", one.parts)
