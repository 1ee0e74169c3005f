"""One campaign's past, built from its feed: bounded, whatever the campaign's length."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coordinator.telemetry.staleness_histogram import STALENESS_BOUNDS, staleness_histogram
from fl_core.wire.checks import is_identifier

# Twice this many points are kept before every other one is dropped: a chart has a point per pixel or two.
MAX_POINTS = 400
MAX_EVENTS = 200
MAX_WORKERS = 20_000
NUM_SPARKS = 24
MAX_REASONS = 64
MAX_METRICS = 64
# A campaign of thirty thousand years.
MAX_SECONDS = 1e12


@dataclass(slots=True)
class WorkerPast:
    """What a worker has contributed.

    Attributes:
        updates, rejected: counts.
        staleness, train_seconds: sums over its merged updates.
        sparks: updates merged per equal part of the campaign's time so far (``Track.spark_seconds`` each).
        last_event: joined, lost or left.
    """

    updates: int = 0
    rejected: int = 0
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
        evaluations: [seconds, version, merged, loss, accuracy, metrics by name] each.
        intervals: merges over time.
        events: lines that people read, the newest last, each with a number ``n`` that rises.
        workers: by name.
        rejected: by reason, over time: [seconds, reason, count] is not kept, only sums.
        spark_seconds: width of one bar of the workers' sparklines.
    """

    def __init__(self) -> None:
        self.evaluations: list[tuple[float, int, int, float | None, float | None, dict[str, float | None]]] = []
        self.intervals: list[Interval] = []
        self.events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self.workers: dict[str, WorkerPast] = {}
        self.rejected: dict[str, int] = {}
        self.spark_seconds = 1.0
        self.generation = 0
        self._num_events = 0
        self._min_seconds = 0.0

    def add(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Take in one entry's lines; an unknown kind is an event of which nothing is known.

        A line that has not the form of its kind was written by no coordinator, and is left out.
        """
        for line in lines:
            if not 0 <= line["seconds"] <= MAX_SECONDS:
                continue
            match line["kind"]:
                case "evaluation":
                    scored = _are_scores(line, "loss", "accuracy") and _are_metrics(line.get("metrics", {}))
                    if scored and _are_counts(line, "version", "merged"):
                        self._add_evaluation(line)
                case "merges":
                    if _are_counts(line, "version", "merged", "updates") and _are_merges(line):
                        self._add_merges(line)
                case "rejections":
                    if _are_counters(line, "reasons", "workers"):
                        self._add_rejections(line)
                        self._add_event(line)
                case "worker":
                    if is_identifier(line.get("worker")) and isinstance(line.get("event"), str):
                        self._worker(line["worker"]).last_event = line["event"]
                        self._add_event(line)
                case _:
                    self._add_event(line)

    # -- kinds -----------------------------------------------------------------------------------------------------

    def _add_evaluation(self, line: Mapping[str, Any]) -> None:
        metrics = line.get("metrics", {"accuracy": line["accuracy"]})
        row = (line["seconds"], line["version"], line["merged"], line["loss"], line["accuracy"], metrics)
        self.evaluations.append(row)
        if len(self.evaluations) > 2 * MAX_POINTS:
            self.evaluations = thin_evaluations(self.evaluations)
            self.generation += 1

    def _add_merges(self, line: Mapping[str, Any]) -> None:
        buckets = staleness_histogram((value, count) for value, count in line["staleness"]).counts
        row = Interval(line["seconds"], line["version"], line["merged"], line["updates"], buckets)
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
        for name, (updates, staleness, train_seconds) in line["workers"].items():
            worker = self._worker(name)
            worker.updates += int(updates)
            worker.staleness += int(staleness)
            worker.train_seconds += train_seconds
            self._spark(worker, line["seconds"], int(updates))

    def _add_rejections(self, line: Mapping[str, Any]) -> None:
        for reason, count in line["reasons"].items():
            if reason not in self.rejected and len(self.rejected) >= MAX_REASONS:
                continue
            self.rejected[reason] = self.rejected.get(reason, 0) + count
        for name, count in line["workers"].items():
            if name:
                self._worker(name).rejected += count

    def _add_event(self, line: Mapping[str, Any]) -> None:
        self._num_events += 1
        self.events.append({"n": self._num_events, **line})

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
            "evaluations": [[*e[:3], None if e[3] is None else round(e[3], 6), *e[4:]] for e in self.evaluations],
            "intervals": [[i.seconds, i.version, i.merged, i.updates, i.buckets] for i in self.intervals],
            "events": list(self.events),
        }


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_counts(line: Mapping[str, Any], *names: str) -> bool:
    return all(_is_count(line.get(name)) for name in names)


def _are_scores(line: Mapping[str, Any], *names: str) -> bool:
    return all(name in line and (line[name] is None or _is_number(line[name])) for name in names)


def _are_metrics(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= MAX_METRICS
        and all(is_identifier(name) and (each is None or _is_number(each)) for name, each in value.items())
    )


def _are_counters(line: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(line.get(name), dict) and all(map(_is_count, line[name].values())) for name in names)


def _are_merges(line: Mapping[str, Any]) -> bool:
    """Whether staleness and workers are as ``coordinator/telemetry/feed.py`` writes them."""
    staleness, workers = line.get("staleness"), line.get("workers")
    return (
        isinstance(staleness, list)
        and isinstance(workers, dict)
        and all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_count, pair)) for pair in staleness)
        and all(is_identifier(name) for name in workers)
        and all(isinstance(row, list) and len(row) == 3 and all(map(_is_number, row)) for row in workers.values())
    )


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
