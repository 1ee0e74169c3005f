"""``fedtide new``, as it is typed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from coordinator.cli import fedtide
from coordinator.projects.project import TEMPLATES


def test_a_project_is_made_here(tmp_path: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to type next is said; every template has a name that can be typed."""
    monkeypatch.chdir(tmp_path)
    done = run("new", "mine", "--template", "vision")
    assert done.exit_code == 0 and "cd mine" in done.output
    assert (tmp_path / "mine" / "mine" / "model.py").exists()
    again = run("new", "mine")
    assert again.exit_code == 2 and "is there already" in again.output
    (choice,) = [option.type for option in fedtide.commands["new"].params if option.name == "template"]
    assert set(choice.choices) == set(TEMPLATES)  # type: ignore[attr-defined]
