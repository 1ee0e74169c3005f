"""What is written beside checkpoints, the same whether the log is kept or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.storage.history import History
from coordinator.storage.journal import Journal
from coordinator.storage.kept_log import KeptLog, read_kept_log


@pytest.mark.parametrize("kept", [True, False])
def test_entries_and_lines_are_written_and_counted(bench: Callable[..., Any], tmp_path: Path, kept: bool) -> None:
    """A checkpoint says how much of which files counts; a new life goes on under another secret."""
    kept_log = KeptLog(tmp_path / "log", [], 1, b"first") if kept else None
    journal = Journal(History(tmp_path / "history.jsonl"), kept_log)
    campaign = bench(aggregation={"buffer_size": 1}).open(1)
    entry = campaign.update(1)
    journal.note(entry, campaign.apply(entry).history)
    journal.begin_life(b"second")
    journal.sync()
    counted = journal.export()
    journal.close()
    assert counted["history_bytes"] == (tmp_path / "history.jsonl").stat().st_size > 0
    assert ("kept_log" in counted) == kept
    if kept:
        records = list(read_kept_log(tmp_path / "log", counted["kept_log"]))
        assert [record[0] for record in records] == ["life", "entry", "life"]
        assert (records[1][1], records[2][1]) == (entry.position, b"second")
