"""A campaign's course for monitors: the history's lines, folded so that their number stays bounded.

What a line says is in ``fl_core/wire/feed_lines.py``. Entries are at least a quarter of a second apart, and the further
a campaign is, the wider: a feed of ten thousand entries reaches back over days, and costs the same per hour as per
minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from coordinator.telemetry.staleness_histogram import STALENESS_BOUNDS, staleness_histogram
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Command
from fl_core.broker.overview import feed
from fl_core.errors import UNTRUSTED
from fl_core.wire.feed_lines import (
    CoordinatorLine,
    Event,
    FeedLine,
    LeftOutLine,
    MergesLine,
    RejectionsLine,
    WorkerLine,
)
from fl_core.wire.history import EndLine, HistoryLine, MergeLine, PhaseLine, ReissueLine, RejectionLine, RequestLine
from fl_core.wire.log_entry import order

MIN_INTERVAL_SECONDS = 0.25
# An entry per four thousandth of the campaign's time: the whole of it takes about 4000 (1 + ln(T / 1000 s)) entries.
INTERVAL_SHARE = 1 / 4000
MAX_LINES = 100
MAX_NAMES = 64

URGENT = (PhaseLine, RequestLine, EndLine, ReissueLine, WorkerLine, CoordinatorLine)


class Feed:
    """Collects lines between two entries.

    Args:
        keys: the campaign's.
    """

    def __init__(self, keys: CampaignKeys) -> None:
        self._keys = keys
        self._covered = "0-0"
        self._count = 0
        self._present: dict[str, bool] | None = None
        self._last_seconds = float("-inf")
        self._clear()

    def _clear(self) -> None:
        self._lines: list[FeedLine] = []
        self._dropped = 0
        self._urgent = False
        self._num_updates = self._num_merges = 0
        self._last_merge: MergeLine | None = None
        self._staleness: Counter[int] = Counter()
        self._merged_by: dict[str, list[float]] = {}
        self._rejected: Counter[str] = Counter()
        self._rejected_by: Counter[str] = Counter()
        self._untrusted: Counter[str] = Counter()
        self._last_rejection = 0.0

    # -- collecting ------------------------------------------------------------------------------------------------

    def resume_after(self, covered: str) -> None:
        """Leave out what the feed holds already: lines of log entries up to this position."""
        self._covered = covered

    def add(self, position: str, lines: Iterable[HistoryLine]) -> None:
        """Take in the history's lines of one log entry."""
        if self._covered != "0-0":
            if order(position) <= order(self._covered):
                return
            self._covered = "0-0"
        for line in lines:
            match line:
                case MergeLine():
                    self._add_merge(line)
                case RejectionLine():
                    self._rejected[line.reason] += 1
                    self._rejected_by[line.worker or ""] += 1
                    if line.reason in UNTRUSTED:
                        self._untrusted[line.worker or ""] += 1
                    self._last_rejection = line.seconds
                case _:
                    self.tell(line)

    def add_training(self, worker: str, seconds: float) -> None:
        """A worker's update was admitted; so long it has trained."""
        self._of_worker(worker)[2] += seconds

    def tell(self, line: Event) -> None:
        """Take in a line that is written as it is."""
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        self._urgent = self._urgent or isinstance(line, URGENT)

    def note_workers(self, present: Mapping[str, bool], seconds: float) -> None:
        """Compare the workers of the campaign's queues with the last look.

        Args:
            present: registered workers; whether each is alive.
            seconds: campaign time.
        """
        before, self._present = self._present, dict(present)
        for worker, alive in present.items():
            was_alive = before is not None and before.get(worker, False)
            if alive and not was_alive:
                self.tell(WorkerLine(seconds=seconds, worker=worker, event="joined"))
            elif was_alive and not alive:
                self.tell(WorkerLine(seconds=seconds, worker=worker, event="lost"))
        for worker, was_alive in (before or {}).items():
            if was_alive and worker not in present:
                self.tell(WorkerLine(seconds=seconds, worker=worker, event="left"))

    def _add_merge(self, line: MergeLine) -> None:
        self._last_merge = line
        self._num_merges += 1
        self._num_updates += len(line.staleness)
        self._staleness.update(line.staleness)
        for worker, staleness in zip(line.workers, line.staleness, strict=False):
            row = self._of_worker(worker)
            row[0] += 1
            row[1] += staleness

    def _of_worker(self, worker: str) -> list[float]:
        return self._merged_by.setdefault(worker, [0, 0, 0.0])

    # -- writing ---------------------------------------------------------------------------------------------------

    def commands(self, fence: int, position: str, seconds: float, *, flush: bool = False) -> list[Command]:
        """An entry for the next commit, if it is time for one and there is news.

        Args:
            fence: of this coordinator.
            position: the last log entry that was applied.
            seconds: campaign time now.
            flush: do not wait for the interval.
        """
        if not (self._lines or self._num_merges or self._rejected):
            return []
        interval = MIN_INTERVAL_SECONDS if self._urgent else max(MIN_INTERVAL_SECONDS, seconds * INTERVAL_SHARE)
        if not flush and 0 <= seconds - self._last_seconds < interval:
            return []
        lines = [_fitted(line) for line in self._folded()]
        # Training is reported when its update arrives, and written with the merge that comes later.
        waiting = {} if self._num_merges else self._merged_by
        self._last_seconds = seconds
        self._clear()
        self._merged_by = waiting
        commands = feed.feed_commands(self._keys, fence, self._count + 1, position, lines)
        self._count += len(commands)
        return commands

    def _folded(self) -> list[FeedLine]:
        lines = list(self._lines)
        if (last := self._last_merge) is not None:
            busiest = sorted(self._merged_by.items(), key=lambda item: -item[1][0])[:MAX_NAMES]
            lines.append(
                MergesLine(
                    seconds=last.seconds,
                    version=last.version,
                    merged=last.merged,
                    updates=self._num_updates,
                    merges=self._num_merges,
                    staleness=tuple(sorted(self._staleness.items())),
                    workers={name: (row[0], row[1], round(row[2], 3)) for name, row in busiest},
                )
            )
        if self._rejected:
            workers = dict(self._rejected_by.most_common(MAX_NAMES))
            untrusted = dict(self._untrusted.most_common(MAX_NAMES)) or None
            lines.append(
                RejectionsLine(
                    seconds=self._last_rejection, reasons=dict(self._rejected), workers=workers, untrusted=untrusted
                )
            )
        if self._dropped:
            lines.append(LeftOutLine(seconds=lines[-1].seconds, lines=self._dropped))
        return sorted(lines, key=lambda line: line.seconds)


def _fitted(line: FeedLine) -> feed.Line:
    """A folded line that fits into an entry: the last names go (of merges, those of the least busy), and if that is not
    enough, each staleness is given as its bucket's bound. The counts beside them stay whole."""
    while isinstance(line, MergesLine | RejectionsLine) and line.workers and not _fits(line):
        line = replace(line, workers=dict(list(line.workers.items())[: len(line.workers) * 7 // 8]))  # type: ignore[arg-type]
        if isinstance(line, RejectionsLine) and line.untrusted:
            kept = {name: count for name, count in line.untrusted.items() if name in line.workers}
            line = replace(line, untrusted=kept or None)
    if isinstance(line, MergesLine) and not _fits(line):
        bounds = [*STALENESS_BOUNDS, STALENESS_BOUNDS[-1] + 1]
        pairs = zip(bounds, staleness_histogram(line.staleness).counts, strict=True)
        line = replace(line, staleness=tuple(pairs))
    return line.to_map()


def _fits(line: FeedLine) -> bool:
    return feed.line_bytes(line.to_map()) <= feed.MAX_LINE_BYTES
