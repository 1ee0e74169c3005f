"""``fedtide simulate``, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from tests.unit.coordinator.simulation.small_spec import small_spec

SPEC = small_spec(seed=0, updates=30)


def test_seeds_make_a_table_and_a_folder_each(tmp_path: Path, run: Callable[..., Result]) -> None:
    """For people, and for machines."""
    (tmp_path / "spec.toml").write_text(SPEC)
    (tmp_path / "fleet.toml").write_text("[[devices]]\nname = 'pi'\ndrop_out = 0.2\n")
    words = ["simulate", str(tmp_path / "spec.toml"), "--devices", "40", "--profile", str(tmp_path / "fleet.toml")]
    shown = run(*words, "--seeds", "2", "--out", str(tmp_path / "two"))
    assert shown.exit_code == 0, shown.output
    assert "over 2 seeds" in shown.output and (tmp_path / "two/seed-1/summary.json").exists()
    printed = run(*words, "--json", "--set", "stop.updates=10", "--out", str(tmp_path / "one"))
    (only,) = json.loads(printed.output)["runs"]
    assert (only["seed"], only["merged"]) == (0, 10) and (tmp_path / "one/summary.json").exists()


def test_bad_input_is_one_sentence(tmp_path: Path, run: Callable[..., Result]) -> None:
    """That ends with code 2."""
    (tmp_path / "spec.toml").write_text(SPEC)
    (tmp_path / "fleet.toml").write_text("[[devices]]\nspeed = 1\n")
    words = ["simulate", str(tmp_path / "spec.toml"), "--devices", "4"]
    refused = run(*words, "--profile", str(tmp_path / "fleet.toml"))
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1) and "'devices.0.speed'" in refused.output
    missing = run(*words, "--profile", str(tmp_path / "none.toml"))
    assert missing.exit_code == 2 and "none.toml cannot be read" in missing.output


def test_a_sweep_is_a_table(tmp_path: Path, run: Callable[..., Result]) -> None:
    """The best combination first; JSON for machines."""
    (tmp_path / "spec.toml").write_text(SPEC)
    words = ["sweep", str(tmp_path / "spec.toml"), "--devices", "20", "--training", "one-by-one"]
    shown = run(*words, "--grid", "training.learning_rate=0.0001,0.2", "--out", str(tmp_path / "out"))
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(" 0.")] == ["0.2", "0.0001"]
    assert (tmp_path / "out" / "comparison.html").exists()
    refused = run(*words, "--grid", "learning_rate")
    assert refused.exit_code == 2 and "SECTION.KEY=VALUE" in refused.output
