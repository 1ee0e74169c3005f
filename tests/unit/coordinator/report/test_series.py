"""The one fold over a history: every column says what the lines say, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from coordinator.report.series import MAX_FAULTS, Series, lower_is_better
from fl_core.wire.history import EndLine, EvaluationLine, MergeLine, PhaseLine, ReissueLine, RejectionLine, RollbackLine
from fl_core.wire.status import MetricScores, Summary

LINES = [
    EvaluationLine(seconds=1.0, version=0, merged=0, loss=2.0, metrics={"auc": None, "f1": 0.5}),
    MergeLine(seconds=2.0, version=1, merged=2, staleness=(0, 3), weights=(1.0, 0.5), workers=("a", "b"), tasks=(1, 2)),
    RejectionLine(seconds=2.5, reason="too_stale", worker="b", task="3-x"),
    RejectionLine(seconds=2.5, reason="malformed", worker=None, task=None),
    ReissueLine(seconds=3.0, task=4, attempt=2, reason="lost"),
    EvaluationLine(seconds=4.0, version=1, merged=2, loss=None, metrics={"auc": 0.75, "f1": 0.25}),
    RollbackLine(seconds=5.0, version=2, good_version=0, rate_factor=0.5),
    PhaseLine(seconds=6.0, state="paused"),
]
END = EndLine(seconds=7.0, state="finished", reason="updates")


def test_columns_say_what_the_lines_say() -> None:
    """Counts, curves by name and over either axis, versions, and what went wrong."""
    series = Series(LINES)
    assert (series.version, series.merged, series.seconds, series.state) == (2, 2, 6.0, "")
    assert series.versions == [(2.0, 1), (5.0, 2)]
    assert (series.update_seconds, series.update_staleness, series.update_tasks) == ([2.0, 2.0], [0, 3], [1, 2])
    assert (series.update_workers, series.update_weights) == (["a", "b"], [1.0, 0.5])
    assert (series.rejected, series.rejected_by) == (Counter(too_stale=1, malformed=1), Counter(b=1))
    assert series.reissued == Counter(lost=1)
    assert series.curve("auc") == [(1.0, None), (4.0, 0.75)]
    assert series.curve("loss", "merged") == [(0.0, 2.0), (2.0, None)]
    assert series.points("loss") == [(1.0, 2.0)]
    assert (series.score_names, series.main_score) == (["f1", "auc", "loss"], "f1")
    assert [line.kind for line in series.faults] == ["rejection", "rejection", "reissue", "rollback", "phase"]
    assert series.num_faults["phase: paused"] == 1
    series.add(END)
    assert series.state == "finished"


def test_faults_are_counted_beyond_those_that_are_kept() -> None:
    """A campaign that fails all week has a page of a bounded length."""
    series = Series(ReissueLine(seconds=1.0, task=n, attempt=2, reason="lost") for n in range(3 * MAX_FAULTS))
    assert (len(series.faults), series.num_faults) == (MAX_FAULTS, Counter({"reissue: lost": 3 * MAX_FAULTS}))


def test_nothing_had_has_no_main_score() -> None:
    """A campaign without an evaluation, or whose numbers were never there."""
    assert Series().main_score is None
    assert (
        Series([EvaluationLine(seconds=1.0, version=0, merged=0, loss=None, metrics={"auc": None})]).main_score is None
    )


def test_directions_are_the_summary_s_and_the_built_in_ones() -> None:
    """A metric of the user's own says itself which way is better."""
    summary = Summary(metrics={"mistakes": MetricScores(higher_is_better=False), "auc": MetricScores()})
    lower = lower_is_better(summary)
    assert {"loss", "mistakes"} <= lower
    assert "auc" not in lower


def test_a_played_campaign_adds_up(bench: Callable[..., Any]) -> None:
    """The fold over what a campaign wrote agrees with its ledger."""
    campaign = bench(aggregation={"buffer_size": 2}).open(6)
    campaign.apply(*(campaign.update(n, worker=f"w{n % 2}") for n in (1, 2, 3, 4)), campaign.reissued(5))
    series, state = Series(campaign.lines), campaign.state
    assert (series.version, series.merged) == (state.strategy.version, state.ledger.merged)
    assert Counter(series.update_workers) == state.contributions.merged_by_worker
    assert series.reissued.total() == state.ledger.reissued
