"""Sweeps: every combination with every seed, each in its own folder; one that fails costs no other."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from coordinator.simulation.sweep import Plan, combinations, rows, run_sweep
from fl_core.errors import CampaignError, SpecError
from tests.unit.coordinator.simulation.small_spec import small_spec


def _plan(folder: Path) -> Plan:
    (folder / "spec.toml").write_text(small_spec(seed=4, updates=20))
    return Plan(folder / "spec.toml", {}, 20, None, None, "one_by_one")


def test_all_combinations_run_with_all_seeds_and_none_twice(tmp_path: Path) -> None:
    """A run that cannot go on says so in its row; what has ended is read again when the sweep is started again."""
    axes = [("codec.name", ["fp32", "int8"]), ("model.factory", ["fl_core.models:mlp", "fl_core.models:nothing"])]
    ran = run_sweep(_plan(tmp_path), axes, 2, tmp_path / "out", 1)
    assert [(each.settings["codec.name"], each.seed, bool(each.error)) for each in ran] == [
        (codec, seed, wrong) for codec in ("fp32", "int8") for wrong in (False, True) for seed in (4, 5)
    ]
    table = list(csv.DictReader((tmp_path / "out" / "sweep.csv").open()))
    assert len(table) == 8 and "fl_core.models:nothing" in table[2]["error"] and table[0]["merged"] == "20"
    first, wrong, *_ = rows(ran)
    assert (first.runs, first.failed, wrong.failed) == (2, 0, 2)
    scores = [each.measures["final_accuracy"] for each in ran[:2]]
    assert first.means["final_accuracy"] == pytest.approx(sum(scores) / 2) and first.deviations["final_accuracy"] > 0
    stamp = (ran[0].folder / "summary.json").stat().st_mtime_ns
    again = run_sweep(_plan(tmp_path), axes[:1], 1, tmp_path / "out", 1)
    assert (ran[0].folder / "summary.json").stat().st_mtime_ns == stamp
    assert again[0].measures == ran[0].measures
    (other,) = run_sweep(_plan(tmp_path), [("codec.name", ["bf16"])], 1, tmp_path / "out", 1)
    assert "holds another run" in other.error


def test_what_is_no_sweep_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """A value that the spec does not accept, an axis that is there twice, too many runs."""
    plan = _plan(tmp_path)
    with pytest.raises(SpecError, match="buffer_size = 'many'"):
        run_sweep(plan, [("aggregation.buffer_size", [4, "many"])], 1, tmp_path / "out", 1)
    with pytest.raises(SpecError, match="is there twice"):
        combinations([("a.b", [1]), ("a.b", [2])])
    with pytest.raises(SpecError, match="20,000 runs"):
        run_sweep(plan, [("campaign.seed", list(range(20)))], 1000, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_what_code_raises_costs_its_own_run(tmp_path: Path) -> None:
    """It stands in its row; a process that is ended is told in one sentence."""
    name = "tests.unit.coordinator.simulation.test_sweep"
    axes = [("model.factory", ["fl_core.models:mlp", f"{name}:raises"])]
    good, bad = run_sweep(_plan(tmp_path), axes, 1, tmp_path / "out", 1)
    assert good.measures["merged"] == 20 and "KeyError" in bad.error
    with pytest.raises(CampaignError, match="was ended"):
        run_sweep(_plan(tmp_path), [("model.factory", [f"{name}:ends"])], 1, tmp_path / "other", 1)


def raises(**args: object) -> None:
    """A model that cannot be built."""
    raise KeyError("missing")


def ends(**args: object) -> None:
    """A model for which there is no room."""
    os._exit(9)
