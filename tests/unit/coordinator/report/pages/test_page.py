"""Reports: complete, safe against what devices call themselves, and readable without a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from coordinator.cli import fedtide
from coordinator.report.pages.page import write_report
from fl_core.errors import SpecError


def test_report_is_one_safe_page(tmp_path: Path, finished: Callable[..., Path]) -> None:
    """It has every section, asks no other host for anything, and runs no script, whatever a worker is called."""
    page = write_report(finished(tmp_path / "run")).read_text()
    for section in ("Scores", "Staleness", "Workers", "Ledger", "Faults", "Spec"):
        assert re.search(f"<h2>{section}", page), section
    assert "<script" not in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]""", page)
    assert page.count("<svg") >= 6
    assert "issued 7 = merged 4 + rejected 1 + expired 0 + cancelled 2 + out 0" in page
    assert "It adds up." in page
    assert "s3://key:***@bucket" in page


def test_report_shows_a_hole_in_the_ledger(tmp_path: Path, finished: Callable[..., Path]) -> None:
    """Counts that do not add up are said to be wrong."""
    page = write_report(finished(tmp_path / "run", issued=9)).read_text()
    assert "issued 9 ≠" in page
    assert "2 tasks are missing" in page


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, finished: Callable[..., Path]) -> None:
    """Both commands say which folder lacks what."""
    with pytest.raises(SpecError, match=r"summary\.json"):
        write_report(tmp_path)
    folder = finished(tmp_path / "run")
    done = CliRunner().invoke(fedtide, ["compare", str(folder), "--out", str(tmp_path / "c.html")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c.html").is_file()
