"""Several runs side by side, on one page and as rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.report.curve import first_met
from coordinator.report.differences import names_by_difference
from coordinator.report.finished_run import FinishedRun, jain, read_run
from coordinator.report.pages.charts import score_charts, speed_chart
from coordinator.report.pages.document import document
from coordinator.report.pages.facts import Row, facts
from coordinator.report.series import lower_is_better
from coordinator.telemetry.units import number
from fl_core.errors import SpecError
from fl_core.spec import StopMetric


@dataclass(frozen=True, slots=True)
class Compared:
    """By what runs are compared.

    Attributes:
        metric: the score that is drawn; None for the first that most of the runs have.
        target: a number of it: how long each run took to reach that; None for no such row.
    """

    metric: str | None = None
    target: float | None = None

    def name(self, runs: Sequence[FinishedRun]) -> str:
        """The score.

        Raises:
            SpecError: no run has it.
        """
        had = Counter(name for run in runs for name in run.series.score_names)
        if self.metric is None:
            return max((name for name in had if name != "loss"), key=lambda name: had[name], default="loss")
        if self.metric not in had:
            raise SpecError(
                f"--metric {self.metric!r} was had in none of these runs; they have {', '.join(had) or 'no score'}."
            )
        return self.metric

    def rows(self, runs: Sequence[FinishedRun]) -> list[Row]:
        """The row about the target, where there is one."""
        if self.target is None:
            return []
        aim = self._aim(runs, self.target)
        side = "at least" if aim.at_most is None else "at most"
        words = f"seconds to {aim.name.replace('_', ' ')} {side} {aim.bound:g}"
        return [(words, [number(row["seconds_to_target"], 1) for row in self.values(runs)])]

    def values(self, runs: Sequence[FinishedRun]) -> list[dict[str, float | None]]:
        """``seconds_to_target`` of each run, None where it never met it; nothing where there is no target."""
        if self.target is None:
            return [{} for _ in runs]
        aim = self._aim(runs, self.target)
        return [{"seconds_to_target": first_met(run.series.curve(aim.name), aim)} for run in runs]

    def _aim(self, runs: Sequence[FinishedRun], bound: float) -> StopMetric:
        name = self.name(runs)
        is_lower = any(name in lower_is_better(run.summary) for run in runs)
        return StopMetric(name=name, at_most=bound) if is_lower else StopMetric(name=name, at_least=bound)


BY_THE_FIRST = Compared()


def write_comparison(folders: Sequence[Path], path: Path, by: Compared = BY_THE_FIRST) -> None:
    """Lay runs side by side on one page.

    Raises:
        SpecError: a folder holds no finished run, or no run has the metric.
    """
    runs = [read_run(folder) for folder in folders]
    metric = by.name(runs)
    labels = Counter(run.name for run in runs)
    plain = [f"{run.name} ({run.folder.name})" if labels[run.name] > 1 else run.name for run in runs]
    for run, name in zip(runs, names_by_difference([run.spec for run in runs], plain), strict=True):
        run.name = name
    parts = [
        "<h1>Runs compared</h1>",
        facts(runs, by.rows(runs)),
        "<h2>Over time</h2>" + score_charts(runs, "seconds", metric),
        "<h2>Over merged updates</h2>" + score_charts(runs, "merged", metric),
        "<h2>Updates merged per second</h2>" + speed_chart(runs),
    ]
    path.write_text(document("fedtide: runs compared", parts), encoding="utf-8")


def compare_rows(folders: Sequence[Path], by: Compared = BY_THE_FIRST) -> list[dict[str, Any]]:
    """The summaries of several runs with their fairness, and ``seconds_to_target``; plain JSON types.

    Raises:
        SpecError: a folder holds no finished run, or no run has the metric.
    """
    runs = [read_run(folder) for folder in folders]
    by.name(runs)
    return [
        {"folder": str(run.folder), "fairness": round(jain(run.contributions), 4), **reached, **run.written}
        for run, reached in zip(runs, by.values(runs), strict=True)
    ]
