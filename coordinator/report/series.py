"""A campaign's history as columns: the one fold over its lines, from which reports, pictures and exports are made."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from coordinator.storage.history import read_history
from fl_core.metrics import names as metric_names
from fl_core.wire.history import (
    EndLine,
    EvaluationLine,
    HistoryLine,
    MergeLine,
    PhaseLine,
    ReissueLine,
    RejectionLine,
    RequestLine,
    RollbackLine,
)
from fl_core.wire.status import Summary

MAX_FAULTS = 100

Over = Literal["seconds", "merged"]
Fault = RejectionLine | ReissueLine | RollbackLine | PhaseLine | RequestLine


class Series:
    """A history by column; times in seconds since the campaign was opened.

    Attributes:
        seconds: of the newest line.
        version, merged: as of the newest merge.
        state: how the campaign has ended; empty while it goes on.
        evaluations: all of them.
        versions: (seconds, version) whenever the model became another one.
        update_seconds, update_staleness, update_weights, update_workers, update_tasks: of each merged update.
        rejected: refused updates by reason.
        rejected_by: by worker.
        reissued: tasks that were given out again, by reason.
        faults: rejections, re-issues, rollbacks and phases, at most ``MAX_FAULTS`` of them.
        num_faults: all of them, by kind and reason.
    """

    def __init__(self, lines: Iterable[HistoryLine] = ()) -> None:
        self.seconds = 0.0
        self.version = self.merged = 0
        self.state = ""
        self.evaluations: list[EvaluationLine] = []
        self.versions: list[tuple[float, int]] = []
        self.update_seconds: list[float] = []
        self.update_staleness: list[int] = []
        self.update_weights: list[float] = []
        self.update_workers: list[str] = []
        self.update_tasks: list[int] = []
        self.rejected: Counter[str] = Counter()
        self.rejected_by: Counter[str] = Counter()
        self.reissued: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.num_faults: Counter[str] = Counter()
        for line in lines:
            self.add(line)

    # -- the fold --------------------------------------------------------------------------------------------------

    def add(self, line: HistoryLine) -> None:
        """Take the next line in."""
        self.seconds, self.state = line.seconds, ""
        match line:
            case MergeLine():
                self._add_merge(line)
            case EvaluationLine():
                self.evaluations.append(line)
            case RejectionLine(reason=reason, worker=worker):
                self.rejected[reason] += 1
                if worker:
                    self.rejected_by[worker] += 1
                self._add_fault(line, reason)
            case ReissueLine(reason=reason):
                self.reissued[reason] += 1
                self._add_fault(line, reason)
            case RollbackLine(version=version):
                self._become(version, line.seconds)
                self._add_fault(line, "")
            case PhaseLine(state=state):
                self._add_fault(line, state)
            case RequestLine(reason=reason):
                self._add_fault(line, reason)
            case EndLine(state=state):
                self.state = state

    def _add_merge(self, line: MergeLine) -> None:
        self._become(line.version, line.seconds)
        self.merged = line.merged
        self.update_seconds += [line.seconds] * len(line.staleness)
        self.update_staleness += line.staleness
        self.update_weights += line.weights
        self.update_workers += map(sys.intern, line.workers)  # a few names, each of them very often
        self.update_tasks += line.tasks

    def _become(self, version: int, seconds: float) -> None:
        self.version = version
        self.versions.append((seconds, version))

    def _add_fault(self, line: Fault, why: str) -> None:
        self.num_faults[f"{line.kind}: {why}"] += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(line)

    # -- scores ----------------------------------------------------------------------------------------------------

    def curve(self, name: str, over: Over = "seconds") -> list[tuple[float, float | None]]:
        """(x, score) of each evaluation; None where this one is absent.

        Args:
            over: what lies on the x axis: seconds, or updates merged by then.
        """
        return [(float(getattr(each, over)), each.scores.get(name)) for each in self.evaluations]

    def points(self, name: str) -> list[tuple[float, float]]:
        """(seconds, score) of the evaluations that have this one."""
        return [(seconds, value) for seconds, value in self.curve(name) if value is not None]

    @property
    def score_names(self) -> list[str]:
        """Scores that were ever had: the metrics in the spec's order, and then the loss."""
        had = dict.fromkeys(name for e in self.evaluations for name, value in e.scores.items() if value is not None)
        return [name for name in had if name != "loss"] + ["loss"] * ("loss" in had)

    @property
    def main_score(self) -> str | None:
        """The first metric that the spec names of those that were ever had, or the loss; None where nothing was."""
        return next(iter(self.score_names), None)


def read_series(history: Path, skip_bytes: int = 0, num_bytes: int | None = None) -> Series:
    """Fold ``history.jsonl``, or the lines between two places in it.

    Raises:
        CampaignError: a line is none of a history.
    """
    return Series(read_history(history, skip_bytes, num_bytes))


def lower_is_better(summary: Summary) -> frozenset[str]:
    """The scores of a run of which lower is better."""
    own = {name for name, scored in (summary.metrics or {}).items() if not scored.higher_is_better}
    return metric_names.LOWER_IS_BETTER | own
