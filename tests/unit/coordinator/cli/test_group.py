"""The group of all commands: each is there, each says what it is for, and settings of a file reach all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli import fedtide
from coordinator.cli.group import print_json


def test_every_command_says_what_it_is_for(run: Callable[..., Any]) -> None:
    """In a line of the group's help, and in its own."""
    listed = run("--help").output
    for name, command in fedtide.commands.items():
        assert f"  {name} " in listed
        assert command.help, name
        assert run(name, "--help").exit_code == 0


def test_a_settings_file_reaches_every_command(run: Callable[..., Any], tmp_path: Path) -> None:
    """And a key that no command has is named."""
    (tmp_path / "fedtide.toml").write_text('broker = "redis://elsewhere:1/0"\n')
    said = run("--config", str(tmp_path / "fedtide.toml"), "campaigns")
    assert "elsewhere:1" in said.output
    (tmp_path / "fedtide.toml").write_text("broken = 1\n")
    wrong = run("--config", str(tmp_path / "fedtide.toml"), "campaigns")
    assert (wrong.exit_code, "broken" in wrong.output) == (2, True)


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a number has no value."""
    print_json({"loss": float("nan")})
    assert capsys.readouterr().out == '{\n  "loss": null\n}\n'
