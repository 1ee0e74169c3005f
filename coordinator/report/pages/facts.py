"""The table of numbers of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coordinator.report.finished_run import FinishedRun, jain
from coordinator.report.pages.document import table
from coordinator.telemetry.units import amount, number

Row = tuple[str, list[str]]
"""A table's row: its head, and a cell for each run."""


def facts(runs: Sequence[FinishedRun], more: Iterable[Row] = ()) -> str:
    """The table of numbers.

    Args:
        runs: a column each.
        more: further rows, behind the scores.
    """
    rows: list[Row] = [
        ("state", [f"{r.summary['state']} {r.summary.get('stop_reason', '')}" for r in runs]),
        ("seconds", [f"{r.summary['wall_seconds']:.1f}" for r in runs]),
        ("versions", [str(r.summary["versions"]) for r in runs]),
        ("version delivered", [str(r.summary.get("delivered_version", r.summary["versions"])) for r in runs]),
        ("updates merged", [str(r.summary["merged"]) for r in runs]),
        ("merged per second", [f"{r.summary['updates_per_second']:.2f}" for r in runs]),
        ("staleness mean / p95 / max", [_three(r.summary["staleness"]) for r in runs]),
        *_metric_rows(runs),
        ("loss, final", [number(r.summary["final_loss"]) for r in runs]),
        *_accuracy_rows(runs),
        *more,
        ("rejected / expired / re-issued", [_not_merged(r.summary) for r in runs]),
        ("fairness of contribution (Jain)", [f"{jain(r.contributions):.3f}" for r in runs]),
        ("bytes up / down", [f"{amount(r.summary['bytes_up'])} / {amount(r.summary['bytes_down'])}" for r in runs]),
        ("parameters", [f"{r.summary['num_parameters']:,}" for r in runs]),
    ]
    head = [] if len(runs) == 1 else ["", *(run.name for run in runs)]
    return table(head, [[name, *cells] for name, cells in rows])


def _three(staleness: Mapping[str, float]) -> str:
    return f"{staleness['mean']:.2f} / {staleness['p95']} / {staleness['max']}"


def _not_merged(summary: Mapping[str, Any]) -> str:
    return f"{sum(summary['rejected'].values())} / {summary['expired']} / {summary['reissued']}"


def _accuracy_rows(runs: Sequence[FinishedRun]) -> Iterable[Row]:
    if any(run.summary.get("seconds_to") for run in runs):
        yield "seconds to an accuracy of 50 / 80 / 90 %", [_reached(r.summary.get("seconds_to", {})) for r in runs]


def _reached(seconds_to: Mapping[str, float]) -> str:
    return " / ".join(f"{seconds_to[key]:.1f}" if key in seconds_to else "–" for key in ("0.50", "0.80", "0.90"))


def _metric_rows(runs: Sequence[FinishedRun]) -> Iterable[Row]:
    """Final and best of each metric that one of the runs has; an earlier release's summary has accuracy alone."""
    found = [r.summary.get("metrics") or _accuracy_of(r.summary) for r in runs]
    for name in dict.fromkeys(name for metrics in found for name in metrics):
        for kind in ("final", "best"):
            yield f"{name.replace('_', ' ')}, {kind}", [number(metrics.get(name, {}).get(kind)) for metrics in found]


def _accuracy_of(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"accuracy": {"final": summary["final_accuracy"], "best": summary["best_accuracy"]}}
