"""Pictures are drawn from any history that a campaign can leave, and what they show is what the history says."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from coordinator.report.curves import draw_comparison, draw_curves
from coordinator.report.series import read_series
from fl_core.spec import StopMetric

TARGET = StopMetric(name="accuracy", at_least=0.9)
PNG = b"\x89PNG\r\n\x1a\n"


def evaluation(seconds: float, accuracy: float | None, loss: float | None = 1.0) -> dict[str, Any]:
    return {"kind": "evaluation", "seconds": seconds, "version": 0, "merged": 0, "loss": loss, "accuracy": accuracy}


def merge(seconds: float, *staleness: int) -> dict[str, Any]:
    each = {"weights": [1.0] * len(staleness), "workers": ["w"] * len(staleness), "tasks": [1] * len(staleness)}
    return {"kind": "merge", "seconds": seconds, "version": 1, "merged": 1, "staleness": list(staleness), **each}


def write(path: Path, *lines: dict[str, Any], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return path


MERGES = [merge(0.1 * i, 0, i % 3, 40) for i in range(1, 30)]
SCORES = [evaluation(0.1 * i, min(0.95, 0.05 * i), 2.0 / i) for i in range(1, 30)]
NO_ACCURACY = [evaluation(0.1 * i, None, 2.0 / i) for i in range(1, 30)]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([*SCORES, *MERGES], id="everything"),
        pytest.param([*NO_ACCURACY, *MERGES], id="loss only"),
        pytest.param(MERGES, id="no evaluation"),
        pytest.param(SCORES[:1], id="one evaluation, no merge"),
        pytest.param([merge(0.0, 0)], id="one merge at time 0"),
        pytest.param([*MERGES, {"kind": "end", "seconds": 3.0, "state": "finished", "reason": "updates"}], id="an end"),
    ],
)
def test_any_history_gives_a_picture(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    """Whatever part of a history is missing, the rest is drawn, and nothing is left beside the picture."""
    history, picture = write(tmp_path / "history.jsonl", *lines), tmp_path / "curves.png"
    assert draw_curves(history, picture, "a campaign")
    assert picture.read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "history.jsonl"]


def test_an_empty_history_gives_no_picture(tmp_path: Path) -> None:
    """A campaign that ended before anything happened leaves no empty axes behind."""
    history = write(tmp_path / "history.jsonl", {"kind": "end", "seconds": 0.0, "state": "stopped", "reason": "asked"})
    assert not draw_curves(history, tmp_path / "curves.png", "a campaign")
    assert not draw_comparison(
        {"a": history}, tmp_path / "comparison.png", "two", StopMetric(name="accuracy", at_least=0.9)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    """A history that a crash cut in the middle of a line is read up to there."""
    history = write(tmp_path / "history.jsonl", *SCORES, merge(1.0, 3, 4), tail='{"kind":"mer')
    series = read_series(history)
    assert (series.update_seconds, series.update_staleness) == ([1.0, 1.0], [3, 4])
    assert len(series.points("accuracy")) == len(SCORES)


def test_without_matplotlib_there_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib is optional: where it is not installed the answer is False, and no error."""
    real_import = builtins.__import__

    def no_matplotlib(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    history = write(tmp_path / "history.jsonl", *SCORES)
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    assert not draw_curves(history, tmp_path / "curves.png", "a campaign")
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("slow_reaches", [True, False])
def test_a_comparison_is_drawn_whether_or_not_the_target_was_reached(slow_reaches: bool, tmp_path: Path) -> None:
    """The slow campaign may have stopped before the target."""
    fast = write(tmp_path / "fast.jsonl", *SCORES)
    slow = write(
        tmp_path / "slow.jsonl", *(evaluation(3.0 * i, (0.1 if slow_reaches else 0.05) * i) for i in range(10))
    )
    assert draw_comparison(
        {"asynchronous": fast, "synchronous": slow},
        tmp_path / "c.png",
        "two",
        StopMetric(name="accuracy", at_least=0.9),
    )
    assert (tmp_path / "c.png").read_bytes().startswith(PNG)


def test_a_comparison_by_another_score_and_from_above(tmp_path: Path) -> None:
    """Lower is better, some numbers are absent, and the range is not that of a share."""
    lines = [evaluation(0.5 * i, None, None if i == 3 else 9.0 - i) for i in range(1, 9)]
    history = write(tmp_path / "history.jsonl", *lines)
    target = StopMetric(name="loss", at_most=4.0)
    assert draw_comparison({"one": history}, tmp_path / "c.png", "by loss", target)
    assert (tmp_path / "c.png").read_bytes().startswith(PNG)
