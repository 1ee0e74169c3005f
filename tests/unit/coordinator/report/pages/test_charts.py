"""Charts of runs: one for each score that any run ever had, small where there are several, a line for each run."""

from __future__ import annotations

from pathlib import Path

from coordinator.report.finished_run import FinishedRun
from coordinator.report.pages.charts import score_charts, speed_chart, staleness_charts
from coordinator.report.series import Series
from fl_core.wire.history import EvaluationLine, MergeLine
from fl_core.wire.status import Summary


def _run(name: str, *scores: dict[str, float | None]) -> FinishedRun:
    lines = [
        EvaluationLine(seconds=float(n), version=n, merged=2 * n, loss=1.0, metrics=each)
        for n, each in enumerate(scores)
    ]
    merges = [
        MergeLine(seconds=1.0 + n, version=n, merged=n, staleness=(n,), weights=(1.0,), workers=("w",), tasks=(n,))
        for n in range(3)
    ]
    return FinishedRun(Path(name), Summary(), {}, "", Series([*lines, *merges]), name)


def test_every_score_has_its_chart_over_either_axis() -> None:
    """Metrics in the spec's order, then the loss; two in a row. A metric that was never had has none."""
    run = _run("a", {"auc": 0.5, "f1": None}, {"auc": 0.75, "f1": 0.25}, {"auc": 0.8, "f1": 0.5})
    for over, label in (("seconds", "seconds"), ("merged", "updates merged")):
        drawn = score_charts([run], over)  # type: ignore[arg-type]
        assert drawn.count("<svg") == 3
        assert drawn.index(f"auc over {label}") < drawn.index(f"f1 over {label}") < drawn.index(f"loss over {label}")
        assert drawn.startswith("<div class=multiples>")


def test_one_chosen_score_is_drawn_at_large_for_all_runs() -> None:
    """A line for each run that has it, with a legend."""
    runs = [_run("a", {"auc": 0.5}, {"auc": 0.75}), _run("b", {"auc": 0.25}, {"auc": 0.5}), _run("c", {"f1": 0.5})]
    drawn = score_charts(runs, "seconds", "auc")
    assert (drawn.count("<svg"), drawn.count("<polyline"), "multiples" in drawn) == (1, 2, False)
    assert [name in drawn.split("legend")[1] for name in (">a<", ">b<", ">c<")] == [True, True, False]


def test_staleness_and_speed_of_what_was_merged() -> None:
    """A dot per update, a bar per staleness that occurred, and a curve of the speed; of nothing, a sentence."""
    run = _run("a")
    drawn = staleness_charts(run)
    assert (drawn.count("<circle"), drawn.count("<rect")) == (3, 3)
    assert "<polyline" in speed_chart([run])
    nothing = FinishedRun(Path("b"), Summary(), {}, "", Series(), "b")
    assert staleness_charts(nothing).count("Nothing to draw.") == 2
    assert speed_chart([nothing]) == "<p>Nothing to draw.</p>"
