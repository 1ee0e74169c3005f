"""history.jsonl: readable while it grows, and cut back to the checkpoint after a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.storage.history import History, HistoryReader, read_history
from fl_core.errors import CampaignError
from fl_core.wire.history import EndLine, HistoryLine, PhaseLine, ReissueLine

SECONDS = st.floats(0, 1e9)
LINES = st.lists(
    st.builds(PhaseLine, seconds=SECONDS, state=st.text(max_size=5))
    | st.builds(ReissueLine, seconds=SECONDS, task=st.integers(0, 99), attempt=st.just(2), reason=st.just("lost")),
    max_size=8,
)


def _line(number: int) -> HistoryLine:
    return ReissueLine(seconds=1.0, task=number, attempt=2, reason="lost")


def _write(path: Path, lines: list[HistoryLine], num_bytes: int = 0) -> int:
    history = History(path, num_bytes)
    history.append(lines)
    history.sync()
    history.close()
    return history.num_bytes


@given(LINES, LINES)
def test_what_is_written_is_read(tmp_path_factory: Any, first: list[HistoryLine], then: list[HistoryLine]) -> None:
    """Lines come back in order, also those that were appended by a second writer from where the first one stood."""
    path = tmp_path_factory.mktemp("run") / "history.jsonl"
    middle = _write(path, first)
    assert _write(path, then, middle) == path.stat().st_size
    assert list(read_history(path)) == first + then
    assert list(read_history(path, num_bytes=middle)) == first
    assert list(read_history(path, skip_bytes=middle)) == then


def test_a_reader_sees_a_line_at_once(tmp_path: Path) -> None:
    """A line is in the file when append returns, without a sync or a close; the folder is made on the way."""
    history = History(tmp_path / "run" / "history.jsonl")
    history.append([_line(1)])
    assert list(read_history(tmp_path / "run" / "history.jsonl")) == [_line(1)]
    history.close()


def test_what_came_after_the_checkpoint_is_written_again(tmp_path: Path) -> None:
    """After a crash the file is cut to where the checkpoint stood, so that the replay's lines are there once."""
    path = tmp_path / "history.jsonl"
    stood = _write(path, [_line(1)])
    _write(path, [_line(2), _line(3)], stood)
    _write(path, [_line(2), _line(3), _line(4)], stood)
    assert list(read_history(path)) == [_line(number) for number in (1, 2, 3, 4)]


def test_a_new_campaign_starts_a_new_history(tmp_path: Path) -> None:
    """Without a checkpoint nothing of an old file stays."""
    path = tmp_path / "history.jsonl"
    _write(path, [_line(1)])
    _write(path, [_line(9)])
    assert list(read_history(path)) == [_line(9)]


def test_a_standby_without_the_old_file_starts_a_readable_one(tmp_path: Path) -> None:
    """A checkpoint that was shared says how long the other machine's history was; here the file begins empty."""
    path = tmp_path / "history.jsonl"
    assert _write(path, [_line(7)], num_bytes=5000) == path.stat().st_size
    assert list(read_history(path)) == [_line(7)]


def test_a_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    """Each line once, an incomplete one when it is whole, and nothing again that a resumed campaign wrote again."""
    path = tmp_path / "history.jsonl"
    lines = [_line(1), _line(2), EndLine(seconds=2.0, state="finished", reason="updates")]
    raw = [json.dumps(line.to_map()).encode() + b"\n" for line in lines]
    reader, got = HistoryReader(path), []
    for content in (raw[0] + raw[1][:9], raw[0] + raw[1], raw[0], b"".join(raw)):
        path.write_bytes(content)
        got.append((len(list(reader.read())), reader.state))
    assert got == [(1, ""), (1, ""), (0, ""), (1, "finished")]


@pytest.mark.parametrize("bad", [b"{]", b"[1]", b"{}", b'{"kind":"phase","seconds":-1,"state":"x"}', b"\xff"])
def test_a_damaged_line_is_named(tmp_path: Path, bad: bytes) -> None:
    """One sentence with the file and the place, whatever reads it."""
    path = tmp_path / "history.jsonl"
    good = json.dumps(_line(1).to_map()).encode() + b"\n"
    path.write_bytes(good + bad + b"\n" + good)
    with pytest.raises(CampaignError, match=rf"history\.jsonl is damaged at byte {len(good)} "):
        list(read_history(path))


def test_no_lines_write_nothing(tmp_path: Path) -> None:
    """An entry without a line for the history leaves the file as it is."""
    path = tmp_path / "history.jsonl"
    assert _write(path, []) == 0
    assert path.read_bytes() == b""
