"""A run's history as points, the same for every program that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.report.series import Series
from fl_core.wire.history import EndLine, EvaluationLine, HistoryLine

MIN_INTERVAL_SECONDS = 0.5


INTERVAL_SHARE = 1 / 1000


@dataclass(frozen=True, slots=True)
class Point:
    """Values at one moment.

    Attributes:
        seconds: campaign time.
        step: the model's version.
        values: by name, such as ``evaluation/accuracy``.
    """

    seconds: float
    step: int
    values: Mapping[str, float]


class Target(Protocol):
    """Where points go."""

    def write(self, points: Iterable[Point]) -> int:
        """Take points in; how many of them are new to it."""

    def close(self, state: str) -> None:
        """No more points for now; the campaign is in this state."""


def points(lines: Iterable[HistoryLine]) -> Iterator[Point]:
    """A history as points. What has not filled its interval when the lines end is kept back: it comes with the rest."""
    series, since, told = Series(), 0.0, 0
    for line in lines:
        seconds = line.seconds
        if seconds - since >= max(MIN_INTERVAL_SECONDS, seconds * INTERVAL_SHARE) or isinstance(line, EndLine):
            if values := _totals(series, series.update_staleness[told:], seconds - since):
                yield Point(seconds, series.version, values)
            since, told = seconds, len(series.update_staleness)
        series.add(line)
        if isinstance(line, EvaluationLine):
            scores = {f"evaluation/{name}": value for name, value in line.scores.items() if value is not None}
            yield Point(seconds, line.version, scores)


def _totals(series: Series, staleness: Sequence[int], seconds: float) -> dict[str, float]:
    """What an interval of so many seconds brought, and the counts so far; empty where nothing has happened at all.

    Args:
        staleness: of the updates that were merged in it.
    """
    values = {f"rejected/{reason}": float(count) for reason, count in sorted(series.rejected.items())}
    if staleness:
        values |= {
            "merges/updates_per_second": len(staleness) / max(seconds, 1e-3),
            "merges/staleness_mean": sum(staleness) / len(staleness),
            "merges/staleness_max": float(max(staleness)),
            "merges/merged": float(series.merged),
        }
    reissued = float(series.reissued.total())
    return {**values, "tasks/reissued": reissued} if values or reissued else {}
