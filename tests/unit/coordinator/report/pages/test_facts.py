"""The table of numbers: a column per run, a row for whatever one of them has."""

from __future__ import annotations

from pathlib import Path

from coordinator.report.finished_run import FinishedRun
from coordinator.report.pages.facts import facts
from coordinator.report.series import Series
from fl_core.wire.status import MetricScores, Summary

EVIL = "<b>x</b>"


def _run(name: str, **said: object) -> FinishedRun:
    return FinishedRun(Path(name), Summary.from_map({"state": "finished", **said}), {}, "", Series(), name)


def test_a_metric_of_one_run_is_a_dash_for_the_other() -> None:
    """Final and best; an earlier release's summary has accuracy alone."""
    scored = {"auc": MetricScores(final=0.5, best=0.75).to_map()}
    page = facts([_run("new", metrics=scored), _run("old", final_accuracy=0.25, best_accuracy=0.5)])
    assert "<tr><td>auc, final</td><td>0.5000</td><td>–</td></tr>" in page
    assert "<tr><td>accuracy, best</td><td>–</td><td>0.5000</td></tr>" in page
    assert "<tr><th></th><th>new</th><th>old</th></tr>" in page


def test_times_to_an_accuracy_stand_there_where_one_has_them() -> None:
    """And further rows behind them."""
    assert "seconds to an accuracy" not in facts([_run("a")])
    page = facts([_run("a", seconds_to={"0.50": 3.0, "0.90": 9.0})], [("own row", [EVIL])])
    assert "<td>3.0 / – / 9.0</td>" in page
    assert "<td>own row</td><td>&lt;b&gt;x&lt;/b&gt;</td>" in page
