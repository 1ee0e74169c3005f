"""Reading a run's folder: what it tells is told, and what is missing is one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.coordinator.loop.led import Led


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a campaign that has ended."""
    led = Led(tmp_path / "run")
    led.run()
    return led.folder.path


def test_runs_are_compared(run: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    """As a page, or as rows for machines."""
    rows = json.loads(run("compare", str(folder), str(folder), "--json").output)
    assert len(rows) == 2
    page = tmp_path / "comparison.html"
    assert run("compare", str(folder), "--out", str(page)).output.strip() == str(page)
    assert page.is_file()


def test_a_report_is_written_again(run: Callable[..., Any], folder: Path) -> None:
    """Into the folder, and its place is printed."""
    said = run("report", str(folder))
    assert (said.exit_code, Path(said.output.strip()).name) == (0, "report.html")


@pytest.mark.parametrize("command", ["replay", "show", "report", "export"])
def test_a_folder_that_is_none_is_one_sentence(run: Callable[..., Any], tmp_path: Path, command: str) -> None:
    """With its name."""
    said = run(command, str(tmp_path / "nowhere"))
    assert said.exit_code in (1, 2)
    assert "nowhere" in said.output
    assert "Traceback" not in said.output
