"""New projects: each template runs as it is, and is clean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from coordinator.projects.project import TEMPLATES, make_project
from fl_core.errors import SpecError

ROOT = Path(__file__).parents[4]
TEST = "test_campaign.py"


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_project_runs_as_it_is(tmp_path: Path, template: str) -> None:
    """Its own test passes, in a process that knows the package by its folder; its files are in good form."""
    folder = make_project(f"my_{template}", template, tmp_path)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == sorted(
        ["README.md", "campaign.toml", "fleet.toml", "phones.toml", f"tests/{TEST}"]
        + [f"my_{template}/{name}.py" for name in ("__init__", "data", "model")]
    )
    assert not any("$" in path.read_text() for path in folder.rglob("*") if path.is_file())
    assert [worker.get("count") for worker in tomllib.loads((folder / "fleet.toml").read_text())["worker"]] == [3, None]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    if ruff := shutil.which("ruff", path=str(Path(sys.executable).parent)):
        config = ["--config", str(ROOT / "pyproject.toml"), "--ignore", "INP001,S101"]
        checked = subprocess.run([ruff, "check", *config, str(folder)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    """By a folder, by fedtide, by Python, or by a package that is installed."""
    make_project("mine", "tabular", tmp_path)
    for name, words in (
        ("mine", "is there already"), ("json", "is here already"), ("coordinator", "is here already"),
        ("numpy", "is here already"), ("My Project", "no name for a package"), ("class", "no name for a package"),
        ("../out", "no name for a package"),
    ):  # fmt: skip
        with pytest.raises(SpecError, match=words):
            make_project(name, "tabular", tmp_path)
