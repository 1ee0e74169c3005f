"""The table of numbers of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from coordinator.report.finished_run import FinishedRun, jain
from coordinator.report.pages.document import table
from coordinator.telemetry.units import amount, number, scores
from fl_core.wire.status import Staleness, Summary

Row = tuple[str, list[str]]
"""A table's row: its head, and a cell for each run."""


def facts(runs: Sequence[FinishedRun], more: Iterable[Row] = ()) -> str:
    """The table of numbers.

    Args:
        runs: a column each.
        more: further rows, behind the scores.
    """
    found = [run.summary for run in runs]
    rows: list[Row] = [
        ("state", [f"{each.state} {each.stop_reason}" for each in found]),
        ("seconds", [f"{each.wall_seconds:.1f}" for each in found]),
        ("versions", [str(each.versions) for each in found]),
        ("version delivered", [str(each.delivered_version or each.versions) for each in found]),
        ("updates merged", [str(each.merged) for each in found]),
        ("merged per second", [f"{each.updates_per_second:.2f}" for each in found]),
        ("staleness mean / p95 / max", [_three(each.staleness) for each in found]),
        *_metric_rows(found),
        ("loss, final", [number(each.final_loss) for each in found]),
        *_accuracy_rows(found),
        *_privacy_rows(found),
        *more,
        ("rejected / expired / re-issued", [f"{s.num_rejected} / {s.expired} / {s.reissued}" for s in found]),
        ("fairness of contribution (Jain)", [f"{jain(run.contributions):.3f}" for run in runs]),
        ("bytes up / down", [f"{amount(each.bytes_up)} / {amount(each.bytes_down)}" for each in found]),
        ("parameters", [f"{each.num_parameters:,}" for each in found]),
    ]
    head = [] if len(runs) == 1 else ["", *(run.name for run in runs)]
    return table(head, [[name, *cells] for name, cells in rows])


def _three(staleness: Staleness) -> str:
    return f"{staleness.mean:.2f} / {staleness.p95} / {staleness.max}"


def _metric_rows(summaries: Sequence[Summary]) -> Iterable[Row]:
    """Final and best of each metric that one of the runs has."""
    found = [{score.name: score for score in scores(each, all_of_them=True)} for each in summaries]
    for name in dict.fromkeys(name for by_name in found for name in by_name if name != "loss"):
        label = name.replace("_", " ")
        yield f"{label}, final", [number(by_name[name].final if name in by_name else None) for by_name in found]
        yield f"{label}, best", [number(by_name[name].best if name in by_name else None) for by_name in found]


def _privacy_rows(summaries: Sequence[Summary]) -> Iterable[Row]:
    if any(each.privacy is not None for each in summaries):
        told = ["–" if each.privacy is None else each.privacy.sentence for each in summaries]
        yield "privacy of each device", told


def _accuracy_rows(summaries: Sequence[Summary]) -> Iterable[Row]:
    if any(each.seconds_to for each in summaries):
        yield "seconds to an accuracy of 50 / 80 / 90 %", [_reached(each.seconds_to or {}) for each in summaries]


def _reached(seconds_to: Mapping[str, float]) -> str:
    return " / ".join(f"{seconds_to[key]:.1f}" if key in seconds_to else "–" for key in ("0.50", "0.80", "0.90"))
