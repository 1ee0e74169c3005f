"""history.jsonl: readable while it grows, and cut back to the checkpoint after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coordinator.storage.history import History, read_history

LINES = st.lists(
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=9), max_size=3), max_size=8
)


def _write(path: Path, lines: list[dict[str, Any]], num_bytes: int = 0) -> int:
    history = History(path, num_bytes)
    history.append(lines)
    history.sync()
    history.close()
    return history.num_bytes


@given(LINES, LINES)
def test_what_is_written_is_read(
    tmp_path_factory: Any, first: list[dict[str, Any]], then: list[dict[str, Any]]
) -> None:
    """Lines come back in order, also those that were appended by a second writer from where the first one stood."""
    path = tmp_path_factory.mktemp("run") / "history.jsonl"
    middle = _write(path, first)
    assert _write(path, then, middle) == path.stat().st_size
    assert list(read_history(path)) == first + then


def test_a_reader_sees_a_line_at_once(tmp_path: Path) -> None:
    """A line is in the file when append returns, without a sync or a close; the folder is made on the way."""
    history = History(tmp_path / "run" / "history.jsonl")
    history.append([{"kind": "merge"}])
    assert list(read_history(tmp_path / "run" / "history.jsonl")) == [{"kind": "merge"}]
    history.close()


def test_what_came_after_the_checkpoint_is_written_again(tmp_path: Path) -> None:
    """After a crash the file is cut to where the checkpoint stood, so that the replay's lines are there once."""
    path = tmp_path / "history.jsonl"
    stood = _write(path, [{"version": 1}])
    _write(path, [{"version": 2}, {"version": 3}], stood)
    _write(path, [{"version": 2}, {"version": 3}, {"version": 4}], stood)
    assert list(read_history(path)) == [{"version": n} for n in (1, 2, 3, 4)]


def test_a_new_campaign_starts_a_new_history(tmp_path: Path) -> None:
    """Without a checkpoint nothing of an old file stays."""
    path = tmp_path / "history.jsonl"
    _write(path, [{"version": 1}])
    _write(path, [{"version": 9}])
    assert list(read_history(path)) == [{"version": 9}]


def test_a_standby_without_the_old_file_starts_a_readable_one(tmp_path: Path) -> None:
    """A checkpoint that was shared says how long the other machine's history was; here the file begins empty."""
    path = tmp_path / "history.jsonl"
    assert _write(path, [{"version": 7}], num_bytes=5000) == path.stat().st_size
    assert list(read_history(path)) == [{"version": 7}]


def test_an_incomplete_last_line_is_left_out(tmp_path: Path) -> None:
    """A reader that comes in the middle of a write, or after a crash in one, sees the whole lines."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"version":1}\n{"vers')
    assert list(read_history(path)) == [{"version": 1}]


def test_no_lines_write_nothing(tmp_path: Path) -> None:
    """An entry without a line for the history leaves the file as it is."""
    path = tmp_path / "history.jsonl"
    assert _write(path, []) == 0
    assert path.read_bytes() == b""
