"""Reports: complete, safe against what devices call themselves, and readable without a network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from coordinator.cli import fedtide
from coordinator.report.pages.comparison import Compared, compare_rows, write_comparison
from coordinator.report.pages.page import write_report
from fl_core.errors import SpecError

EVIL = "<script>alert(1)</script>"


def _run(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    summary = {
        "campaign": "digits-1", "state": "finished", "stop_reason": "updates", "strategy": "fedbuff", "versions": 2,
        "issued": 7, "merged": 4, "rejected": {"too_stale": 1}, "expired": 0, "cancelled": 2, "out": 0, "reissued": 1,
        "surplus": {"duplicate": 1}, "wall_seconds": 9.5, "updates_per_second": 0.42,
        "staleness": {"mean": 0.5, "p50": 0, "p95": 1, "max": 1}, "final_accuracy": 0.9, "best_accuracy": 0.9,
        "final_loss": 0.3, "best_loss": 0.3, "seconds_to": {"0.50": 3.0}, "num_parameters": 1234, "bytes_up": 10,
        "bytes_down": 20, "merged_by_worker": {"a": 3, EVIL: 1},
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps({**summary, **changes}))
    (folder / "spec.toml").write_text(f'[campaign]\nname = "{EVIL}"\n[x]\nplace = "s3://key:s3cret@bucket"\n')
    lines = [
        {"kind": "evaluation", "seconds": 1.0, "version": 0, "merged": 0, "loss": 2.3, "accuracy": 0.1},
        {"kind": "merge", "seconds": 3.0, "version": 1, "merged": 2, "staleness": [0, 1], "weights": [1.0, 0.7],
         "workers": ["a", EVIL], "tasks": [1, 2]},
        {"kind": "rejection", "seconds": 4.0, "reason": "too_stale", "worker": EVIL, "task": "3-a"},
        {"kind": "reissue", "seconds": 5.0, "task": 4, "attempt": 2, "reason": "lost"},
        {"kind": "merge", "seconds": 8.0, "version": 2, "merged": 4, "staleness": [0, 1], "weights": [1.0, 0.7],
         "workers": ["a", "a"], "tasks": [5, 6]},
        {"kind": "evaluation", "seconds": 9.0, "version": 2, "merged": 4, "loss": 0.3, "accuracy": 0.9},
    ]  # fmt: skip
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_report_is_one_safe_page(tmp_path: Path) -> None:
    """It has every section, asks no other host for anything, and runs no script, whatever a worker is called."""
    page = write_report(_run(tmp_path / "run")).read_text()
    for section in ("Scores", "Staleness", "Workers", "Ledger", "Faults", "Spec"):
        assert re.search(f"<h2>{section}", page), section
    assert "<script" not in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]""", page)
    assert page.count("<svg") >= 6
    assert "issued 7 = merged 4 + rejected 1 + expired 0 + cancelled 2 + out 0" in page
    assert "It adds up." in page
    assert "s3://key:***@bucket" in page


def test_report_shows_a_hole_in_the_ledger(tmp_path: Path) -> None:
    """Counts that do not add up are said to be wrong."""
    page = write_report(_run(tmp_path / "run", issued=9)).read_text()
    assert "issued 9 ≠" in page
    assert "2 tasks are missing" in page


def test_runs_are_laid_side_by_side(tmp_path: Path) -> None:
    """A column per run, also when two runs have one name; JSON for scripts has the fairness of contributions."""
    one = _run(tmp_path / "one", merged_by_worker={"a": 3, "b": 1})
    folders = [one, _run(tmp_path / "two", merged_by_worker={"a": 2, "b": 2})]
    write_comparison(folders, tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text()
    assert "digits-1 (one)" in page
    assert "digits-1 (two)" in page
    # (3 + 1)^2 / (2 (9 + 1)) = 0.8
    assert [row["fairness"] for row in compare_rows(folders)] == [0.8, 1.0]


def test_runs_are_compared_by_any_metric(tmp_path: Path) -> None:
    """By the one that most have, or the one that is named; lower is better where the summary says so."""
    folders = [_run(tmp_path / name) for name in ("one", "two")]
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


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    """Both commands say which folder lacks what."""
    with pytest.raises(SpecError, match=r"summary\.json"):
        write_report(tmp_path)
    folder = _run(tmp_path / "run")
    done = CliRunner().invoke(fedtide, ["compare", str(folder), "--out", str(tmp_path / "c.html")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c.html").is_file()
