"""Runs side by side: a column and a line for each, by whichever score is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.report.pages.comparison import Compared, compare_rows, write_comparison
from fl_core.errors import SpecError


def test_runs_are_laid_side_by_side(tmp_path: Path, finished: Callable[..., Path]) -> None:
    """A column per run, also when two runs have one name; JSON for scripts has the fairness of contributions."""
    one = finished(tmp_path / "one", merged_by_worker={"a": 3, "b": 1})
    folders = [one, finished(tmp_path / "two", merged_by_worker={"a": 2, "b": 2})]
    write_comparison(folders, tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text()
    assert "digits-1 (one)" in page
    assert "digits-1 (two)" in page
    # (3 + 1)^2 / (2 (9 + 1)) = 0.8
    assert [row["fairness"] for row in compare_rows(folders)] == [0.8, 1.0]


def test_runs_are_compared_by_any_metric(tmp_path: Path, finished: Callable[..., Path]) -> None:
    """By the one that most have, or the one that is named; lower is better where the summary says so."""
    folders = [finished(tmp_path / name) for name in ("one", "two")]
    for folder, values in zip(folders, ([9.0, None], [4.0, 1.0]), strict=True):
        summary, history = folder / "summary.json", folder / "history.jsonl"
        told = {"metrics": {"word_errors": {"final": values[1], "best": 1.0, "higher_is_better": False}}}
        summary.write_text(json.dumps(json.loads(summary.read_text()) | told))
        lines = [json.loads(line) for line in history.read_text().splitlines()]
        for line, value in zip(lines[::5], values, strict=True):
            line["metrics"] = {"word_errors": value}
        history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = tmp_path / "both.html"
    for by in (Compared(target=4.0), Compared("word_errors", 4.0)):
        write_comparison(folders, page, by)
        assert "seconds to word errors at most 4</td><td>–</td><td>1.0</td>" in page.read_text()
        assert "word errors over seconds" in page.read_text()
        assert [row["seconds_to_target"] for row in compare_rows(folders, by)] == [None, 1.0]
    with pytest.raises(SpecError, match="--metric 'auc' was had in none of these runs; they have word_errors, loss"):
        write_comparison(folders, page, Compared("auc"))
