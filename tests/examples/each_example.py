"""Every example runs as its first lines say, with a small budget, and learns. ``make examples`` runs these."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/campaign.toml"))
VARIANTS = [*((name, "campaign") for name in EXAMPLES), ("hospital", "private")]
BUDGET_SECONDS = 45


def run(name: str, spec: str, folder: Path) -> dict[str, Any]:
    """The example's own command, from the repository's root; its summary."""
    command = [sys.executable, "-P", "-m", "coordinator", "run", f"examples/{name}/{spec}.toml"]
    command += ["--fleet", f"examples/{name}/fleet.toml", "--set", f"stop.seconds={BUDGET_SECONDS}"]
    command += ["--port", "0", "--out", str(folder), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUDGET_SECONDS + 120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """The evaluations of a run, in order."""
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "evaluation"]


def test_there_are_examples() -> None:
    """The ones that the README names are there."""
    named = {"attention", "byzantine", "digits", "distillation", "finance", "hospital", "keyboard", "own_code"}
    assert named <= set(EXAMPLES)


@pytest.mark.parametrize(("name", "spec"), VARIANTS)
def test_the_example_runs_and_learns(name: str, spec: str, tmp_path: Path) -> None:
    """It ends by itself, its ledger adds up, and the last loss is below the first."""
    summary = run(name, spec, tmp_path / "run")
    assert summary["state"] == "finished"
    ended = summary["merged"] + sum(summary["rejected"].values()) + summary["expired"] + summary["cancelled"]
    assert summary["issued"] == ended + summary["out"]
    assert summary["merged"] >= 10
    scores = evaluations(tmp_path / "run")
    assert scores[-1]["loss"] < scores[0]["loss"]
    assert (tmp_path / "run" / "report.html").is_file()
    if (privacy := summary.get("privacy")) is not None:
        assert summary["stop_reason"] in ("privacy", "seconds")
        assert 0 < privacy["epsilon"] <= privacy["budget"]
