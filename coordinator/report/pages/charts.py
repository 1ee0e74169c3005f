"""A run's or several runs' series as charts: scores, speed, staleness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from coordinator.report.curve import speed
from coordinator.report.finished_run import FinishedRun
from coordinator.report.pages import svg
from coordinator.report.series import Over
from coordinator.telemetry.staleness_histogram import staleness_histogram, staleness_labels
from fl_core.metrics import names as metric_names

SMALL = 352
"""Width of one of several charts, of which two stand in a row."""

X_LABELS: Mapping[Over, str] = {"seconds": "seconds", "merged": "updates merged"}


def score_charts(runs: Sequence[FinishedRun], over: Over, chosen: str | None = None) -> str:
    """Each metric that was ever had, and the loss, a chart for each with a line per run; or the chosen one alone."""
    names = dict.fromkeys(name for run in runs for name in run.series.score_names)
    shown = [name for name in names if name != "loss"] + ["loss"] if chosen is None else [chosen]
    charts = []
    for name in shown:
        lines = [svg.Line(run.name, run.series.curve(name, over)) for run in runs]
        charts.append(
            svg.line_chart(
                lines,
                x_label=X_LABELS[over],
                y_label=name.replace("_", " "),
                y_range=(0.0, 1.0) if name in metric_names.SHARES else None,
                width=svg.WIDTH if len(shown) == 1 else SMALL,
            )
        )
    return charts[0] if len(charts) == 1 else f"<div class=multiples>{''.join(f'<div>{c}</div>' for c in charts)}</div>"


def speed_chart(runs: Sequence[FinishedRun]) -> str:
    """Updates merged per second, a line per run."""
    lines = []
    for run in runs:
        if merged := run.series.update_seconds:
            moments, rates = speed(merged, merged[-1])
            lines.append(svg.Line(run.name, list(zip(moments.tolist(), rates.tolist(), strict=True))))
    return svg.line_chart(lines, x_label="seconds", y_label="per second")


def staleness_charts(run: FinishedRun) -> str:
    """A dot per merged update over time, and how many there are of each staleness."""
    series = run.series
    dots = svg.Line("update", list(zip(series.update_seconds, map(float, series.update_staleness), strict=True)))
    counts = staleness_histogram(Counter(series.update_staleness).items()).counts
    bars = [(label, float(count)) for label, count in zip(staleness_labels(), counts, strict=True) if count]
    return svg.line_chart([dots], x_label="seconds", y_label="versions behind", dots=True) + svg.bar_chart(
        bars, label="updates by staleness"
    )
