"""One campaign's past, built from its feed: bounded, whatever the campaign's length."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from coordinator.telemetry.staleness_histogram import STALENESS_BOUNDS, staleness_histogram
from fl_core.wire.feed_lines import FeedLine, MergesLine, RejectionsLine, WorkerLine
from fl_core.wire.history import EvaluationLine

# Twice this many points are kept before every other one is dropped: a chart has a point per pixel or two.
MAX_POINTS = 400
MAX_EVENTS = 200
MAX_WORKERS = 20_000
NUM_SPARKS = 24
MAX_REASONS = 64


@dataclass(slots=True)
class WorkerPast:
    """What a worker has contributed.

    Attributes:
        updates, rejected: counts.
        untrusted: of the rejected ones, those that were not signed by their sender.
        staleness, train_seconds: sums over its merged updates.
        sparks: updates merged per equal part of the campaign's time so far (``Track.spark_seconds`` each).
        last_event: joined, lost or left.
    """

    updates: int = 0
    rejected: int = 0
    untrusted: int = 0
    staleness: int = 0
    train_seconds: float = 0.0
    sparks: list[int] = field(default_factory=list)
    last_event: str = ""


@dataclass(slots=True)
class Interval:
    """Merges between two points of the chart; the counts are those of the interval, not running sums."""

    seconds: float
    version: int
    merged: int
    updates: int
    buckets: list[int]


class Track:
    """Takes feed lines in order and keeps series for charts.

    Attributes:
        evaluations: of versions.
        intervals: merges over time.
        events: lines that people read, the newest last, each with its number.
        num_events: how many there were.
        workers: by name.
        rejected: by reason, over time: [seconds, reason, count] is not kept, only sums.
        spark_seconds: width of one bar of the workers' sparklines.
    """

    def __init__(self) -> None:
        self.evaluations: list[EvaluationLine] = []
        self.intervals: list[Interval] = []
        self.events: deque[tuple[int, FeedLine]] = deque(maxlen=MAX_EVENTS)
        self.workers: dict[str, WorkerPast] = {}
        self.rejected: dict[str, int] = {}
        self.spark_seconds = 1.0
        self.generation = 0
        self.num_events = 0
        self._min_seconds = 0.0

    def add(self, lines: Iterable[FeedLine]) -> None:
        """Take in one entry's lines."""
        for line in lines:
            match line:
                case EvaluationLine():
                    self._add_evaluation(line)
                case MergesLine():
                    self._add_merges(line)
                case RejectionsLine():
                    self._add_rejections(line)
                    self._add_event(line)
                case WorkerLine():
                    self._worker(line.worker).last_event = line.event
                    self._add_event(line)
                case _:
                    self._add_event(line)

    # -- kinds -----------------------------------------------------------------------------------------------------

    def _add_evaluation(self, line: EvaluationLine) -> None:
        self.evaluations.append(line)
        if len(self.evaluations) > 2 * MAX_POINTS:
            self.evaluations = thin_evaluations(self.evaluations)
            self.generation += 1

    def _add_merges(self, line: MergesLine) -> None:
        buckets = staleness_histogram(line.staleness).counts
        row = Interval(line.seconds, line.version, line.merged, line.updates, buckets)
        last = self.intervals[-1] if self.intervals else None
        before = self.intervals[-2].seconds if len(self.intervals) > 1 else 0.0
        if last is not None and last.seconds - before < self._min_seconds:
            self.intervals[-1] = joined(last, row)
        else:
            self.intervals.append(row)
        if len(self.intervals) > 2 * MAX_POINTS:
            self._min_seconds = self.intervals[-1].seconds / MAX_POINTS
            self.intervals = thin_intervals(self.intervals, self._min_seconds)
            self.generation += 1
        for name, (updates, staleness, train_seconds) in line.workers.items():
            worker = self._worker(name)
            worker.updates += int(updates)
            worker.staleness += int(staleness)
            worker.train_seconds += train_seconds
            self._spark(worker, line.seconds, int(updates))

    def _add_rejections(self, line: RejectionsLine) -> None:
        for reason, count in line.reasons.items():
            if reason not in self.rejected and len(self.rejected) >= MAX_REASONS:
                continue
            self.rejected[reason] = self.rejected.get(reason, 0) + count
        for name, count in line.workers.items():
            if name:
                self._worker(name).rejected += count
        for name, count in (line.untrusted or {}).items():
            if name:
                self._worker(name).untrusted += count

    def _add_event(self, line: FeedLine) -> None:
        self.num_events += 1
        self.events.append((self.num_events, line))

    # -- workers ---------------------------------------------------------------------------------------------------

    def _worker(self, name: str) -> WorkerPast:
        if name not in self.workers and len(self.workers) >= MAX_WORKERS:
            return WorkerPast()  # counted nowhere: a name per update would be somebody's attack
        return self.workers.setdefault(name, WorkerPast())

    def _spark(self, worker: WorkerPast, seconds: float, updates: int) -> None:
        while seconds >= self.spark_seconds * NUM_SPARKS:
            self.spark_seconds *= 2
            for each in self.workers.values():
                pairs = each.sparks + [0] * (len(each.sparks) % 2)
                each.sparks = [pairs[i] + pairs[i + 1] for i in range(0, len(pairs), 2)]
        place = int(seconds / self.spark_seconds)
        worker.sparks += [0] * (place + 1 - len(worker.sparks))
        worker.sparks[place] += updates

    # -- what a chart is drawn from --------------------------------------------------------------------------------

    def series(self) -> dict[str, Any]:
        """All series, as plain JSON types."""
        return {
            "generation": self.generation,
            "bounds": list(STALENESS_BOUNDS),
            "evaluations": [_row(line) for line in self.evaluations],
            "intervals": [[i.seconds, i.version, i.merged, i.updates, i.buckets] for i in self.intervals],
            "events": [{"n": number, **line.to_map()} for number, line in self.events],
        }


def _row(line: EvaluationLine) -> list[Any]:
    loss = None if line.loss is None else round(line.loss, 6)
    return [line.seconds, line.version, line.merged, loss, line.metrics.get("accuracy"), dict(line.metrics)]


def thin_evaluations(rows: list[Any]) -> list[Any]:
    """Every other row, the first and the last one kept.

    >>> thin_evaluations([1, 2, 3, 4, 5, 6])
    [1, 3, 5, 6]
    """
    return rows[:-1:2] + rows[-1:]


def joined(first: Interval, second: Interval) -> Interval:
    """Two intervals as one; no update is lost."""
    buckets = [a + b for a, b in zip(first.buckets, second.buckets, strict=True)]
    return Interval(second.seconds, second.version, second.merged, first.updates + second.updates, buckets)


def thin_intervals(rows: list[Interval], min_seconds: float) -> list[Interval]:
    """Join neighbours until each interval is at least ``min_seconds`` wide (the last one may be narrower)."""
    thinned: list[Interval] = []
    start = 0.0
    for row in rows:
        if thinned and thinned[-1].seconds - start < min_seconds:
            thinned[-1] = joined(thinned[-1], row)
        else:
            start = thinned[-1].seconds if thinned else 0.0
            thinned.append(row)
    return thinned
