"""The files of a run's folder held against its last checkpoint: each says the same, or is the one that does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.report.agreement import compare_folder
from fl_core.errors import CampaignError
from tests.unit.coordinator.report.conftest import Left


def _compare(left: Left) -> dict[str, bool]:
    return compare_folder(left.folder, left.state, left.layout, left.summary, left.history_bytes)


def test_what_a_run_leaves_agrees(left: Left) -> None:
    """What was written after the checkpoint is no contradiction."""
    assert _compare(left) == {"model": True, "history": True, "counts": True}


def _turn_a_bit(run: Path) -> None:
    data = bytearray((run / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (run / "model.safetensors").write_bytes(data)


def _change(file: str, before: str, after: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / file).read_text()
        assert before in text
        (run / file).write_text(text.replace(before, after, 1))

    return change


def _without(file: str, word: str) -> Callable[[Path], None]:
    def drop(run: Path) -> None:
        lines = (run / file).read_text().splitlines(keepends=True)
        (run / file).write_text("".join(line for line in lines if word not in line))

    return drop


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (_turn_a_bit, "model"),
        (_change("summary.json", '"merged": 6', '"merged": 7'), "counts"),
        (_change("summary.json", '"model_digest": "', '"model_digest": "0'), "counts"),
        (_change("history.jsonl", "pi-1", "pi-0"), "history"),
        (_change("history.jsonl", '"tasks": [1, 2]', '"tasks": [3, 4]'), "history"),
        (_without("history.jsonl", '"kind": "reissue"'), "history"),
        (_change("history.jsonl", "norm_exceeded", "norm_accepted"), "history"),
    ],
)
def test_what_was_changed_contradicts(left: Left, change: Callable[[Path], None], part: str) -> None:
    """One bit of the model, a count, a merge of the same task twice, a missing line: that part alone."""
    change(left.folder.path)
    assert [name for name, same in _compare(left).items() if not same] == [part]


def test_a_campaign_that_is_not_over_has_no_model_and_no_summary(left: Left, bench: Callable[..., Any]) -> None:
    """Which is no contradiction either; its history is looked at all the same."""
    left.folder.model.unlink()
    left.folder.summary.unlink()
    running = bench(aggregation={"buffer_size": 2}).open(3).state
    found = compare_folder(left.folder, running, left.layout, left.summary, left.history_bytes)
    assert found == {"model": True, "history": False, "counts": True}


@pytest.mark.parametrize(
    ("file", "fate"),
    [(name, fate) for name in ("model.safetensors", "summary.json") for fate in ("gone", "cut")]
    + [("history.jsonl", "gone")],
)
def test_a_file_that_is_missing_or_damaged_is_a_sentence(left: Left, file: str, fate: str) -> None:
    """It names the folder; nothing is compared."""
    path = left.folder.path / file
    if fate == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:3])
    with pytest.raises(CampaignError, match=r"a file in .*run is missing or damaged"):
        _compare(left)
