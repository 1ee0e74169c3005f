"""The training child's tally of tasks: counts and times in shared memory, and spans if wanted.

The parent serves the numbers to Prometheus while the child trains. They lie in memory that is older than the fork, so
that a child that dies takes nothing with it and its successor counts on.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Mapping

from fl_core.program.tracing import Tracer
from fl_core.wire.histogram import SECONDS, Histogram, bucket
from fl_core.wire.messages import TaskCall, TrainTask

# delivered; the campaign had ended meanwhile; its doorbell was void; cancelled while training; training raised; the
# device may give no more away; the worker had to stop (the parent says so); no coordinator has signed what it rests on
OUTCOMES = ("delivered", "unwanted", "void", "cancelled", "failed", "budget_spent", "handed_back", "distrusted")
PARTS = ("fetch", "train", "encode", "deliver")
_SPANS = {"fetch": "pull"}
_ROW = len(SECONDS) + 2  # buckets, the rest, the sum


class Tally:
    """Counts by outcome and a histogram per part, in memory that parent and child share.

    Each number has one writer; a reader sees it before or after a change, never half of one.
    """

    def __init__(self) -> None:
        numbers = len(OUTCOMES) + len(PARTS) * _ROW
        self._numbers = memoryview(mmap.mmap(-1, 8 * numbers)).cast("d")

    def count(self, outcome: str) -> None:
        """One task more that ended so."""
        self._numbers[OUTCOMES.index(outcome)] += 1

    def time(self, part: str, seconds: float) -> None:
        """One task more whose part took so long."""
        start = len(OUTCOMES) + PARTS.index(part) * _ROW
        self._numbers[start + bucket(SECONDS, seconds)] += 1
        self._numbers[start + _ROW - 1] += seconds

    def outcomes(self) -> dict[str, int]:
        """Tasks by outcome."""
        return {outcome: int(self._numbers[index]) for index, outcome in enumerate(OUTCOMES)}

    def histogram(self, part: str) -> Histogram:
        """Of the seconds that a part took."""
        start = len(OUTCOMES) + PARTS.index(part) * _ROW
        row = list(self._numbers[start : start + _ROW])
        return Histogram(SECONDS, [int(count) for count in row[:-1]], row[-1])


class TaskRecorder:
    """The child's: counts each task that ended, and exports its spans.

    Args:
        tally: where to count.
        worker: this worker's name.
        traces: export spans; see ``fl_core/program/tracing.py``.

    Raises:
        SpecError: traces are wanted, and the extra ``otel`` is missing or its settings are wrong.
    """

    def __init__(self, tally: Tally, worker: str, *, traces: bool) -> None:
        self._tally = tally
        self._worker = worker
        self._tracer = Tracer("fedtide-worker") if traces else None

    def ended(
        self,
        task: TaskCall | TrainTask,
        outcome: str,
        seconds: Mapping[str, float] | None = None,
        error: str = "",
    ) -> None:
        """A task ended just now.

        Args:
            seconds: of the parts that it had, one after the other until now; empty if it never got so far.
        """
        self._tally.count(outcome)
        parts = [(part, seconds[part]) for part in PARTS if part in seconds] if seconds else []
        for part, took in parts:
            self._tally.time(part, took)
        if self._tracer is None:
            return
        end_ns = time.time_ns()
        for part, took in reversed(parts):
            start_ns = end_ns - round(took * 1e9)
            self._tell(task, _SPANS.get(part, part), start_ns, end_ns, outcome)
            end_ns = start_ns
        if outcome in ("failed", "cancelled"):
            self._tell(task, "train", end_ns, end_ns, outcome, error or outcome)

    def close(self) -> None:
        """Send the spans that wait."""
        if self._tracer is not None:
            self._tracer.close()

    def _tell(
        self, task: TaskCall | TrainTask, name: str, start_ns: int, end_ns: int, outcome: str, error: str = ""
    ) -> None:
        if self._tracer is not None:
            self._tracer.record(
                task.campaign, task.task_id, name, start_ns, end_ns, error=error,
                worker=self._worker, attempt=task.attempt, outcome=outcome,
            )  # fmt: skip
