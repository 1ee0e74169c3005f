"""What of the log may go: never what the checkpoint before the newest needs, unless there is no room."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from coordinator.storage.checkpoint import CheckpointStore
from coordinator.storage.saver import Covered, Saver
from fl_core.wire.log_entry import LogEntry

ROOM = 10_000


def _saver(folder: Path) -> Saver:
    writer: Any = SimpleNamespace(fence=1)
    return Saver(CheckpointStore(str(folder)), writer, lambda seconds: None)


def _save(saver: Saver, position: str) -> None:
    saver.save({"x": np.zeros(1, np.float32)}, {}, position, 0, before=lambda: None)
    saver.wait()


def _note(saver: Saver, position: str, num_bytes: int = 100) -> None:
    saver.note(LogEntry(position, "u", b"h" * num_bytes, b""), (f"blob-{position}", 10))


def test_entries_go_when_two_checkpoints_cover_them(tmp_path: Path) -> None:
    """The newest checkpoint may turn out to be damaged: the one before and the log have to lead to the same state."""
    saver = _saver(tmp_path)
    _note(saver, "1-0")
    _save(saver, "1-0")
    assert saver.take_covered(ROOM) is None
    _note(saver, "2-0")
    _save(saver, "2-0")
    assert saver.take_covered(ROOM) == Covered("1-0", [("blob-1-0", 10)])
    assert saver.take_covered(ROOM) is None
    assert saver.all_blobs() == [("blob-2-0", 10)]


def test_for_want_of_room_they_go_when_one_covers_them(tmp_path: Path) -> None:
    """The log never takes more than it may because of a checkpoint that nobody needs."""
    saver = _saver(tmp_path)
    _note(saver, "1-0", ROOM)
    _save(saver, "1-0")
    assert saver.take_covered(ROOM) == Covered("1-0", [("blob-1-0", 10)])


def test_what_the_log_still_has_after_a_resume_goes_as_well(tmp_path: Path) -> None:
    """A coordinator that died before it trimmed leaves entries, and their payloads, to the next one."""
    saver = _saver(tmp_path)
    saver.note_covered("1-0", 100, ("blob-1-0", 10))
    _note(saver, "2-0")
    _save(saver, "2-0")
    assert saver.take_covered(ROOM) == Covered("1-0", [("blob-1-0", 10)])
