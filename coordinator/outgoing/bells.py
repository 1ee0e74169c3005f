"""Doorbells that have gone missing: which of the tasks that nobody has claimed are to be rung for again, and how many.

A message may be lost with the server's last second, or with a worker that was killed with it in hand. What shows it:

- A queue holds fewer messages than tasks wait on it: so many are missing, and which ones is not known. The oldest are
  rung for: a queue is first in, first out, so theirs were the next to be answered.
- A task that was rung for later is claimed: messages of one queue are answered in their order, so this task's is gone.
- Nothing moves for long. The messages of other campaigns can hide that ours are gone: a few are rung for, to see.

A ring too many is harmless (the worker finds the task claimed), but a queue of a hundred thousand must not grow by it.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping

from coordinator.campaign.ledger import OpenTask

GRACE_SECONDS = 3.0
# Where nothing moves: so long is waited at first, and so many are rung for; both are doubled each time.
FIRST_PATIENCE_SECONDS = 60.0
FIRST_PROBES = 10


class Bells:
    """What was rung when."""

    def __init__(self) -> None:
        self._rung: dict[int, float] = {}
        self._newest_claimed: dict[str, float] = {}
        self._stalls: dict[str, _Stall] = {}

    def missing(
        self, waiting: Iterable[OpenTask], claimed: Iterable[OpenTask], depths: Mapping[str, int], now: float
    ) -> list[OpenTask]:
        """The tasks to ring for again, the oldest first.

        Args:
            waiting: those that nobody has claimed.
            claimed: those that somebody has.
            depths: how many messages wait on each queue.
            now: campaign time, in seconds.
        """
        for task in claimed:
            # A stamp from the future is one from before a jump of the server's clock was noticed.
            issued = min(now, task.issued_ms / 1000)
            self._newest_claimed[task.queue] = max(issued, self._newest_claimed.get(task.queue, 0.0))
        queues: defaultdict[str, list[OpenTask]] = defaultdict(list)
        for task in waiting:
            queues[task.queue].append(task)
        still = {task.number for tasks in queues.values() for task in tasks}
        self._rung = {number: when for number, when in self._rung.items() if number in still}
        self._stalls = {queue: stall for queue, stall in self._stalls.items() if queue in queues}
        missing = [
            task for queue, tasks in queues.items() for task in self._of_queue(queue, tasks, depths.get(queue, 0), now)
        ]
        self._rung |= {task.number: now for task in missing}
        return missing

    def _of_queue(self, queue: str, tasks: list[OpenTask], depth: int, now: float) -> list[OpenTask]:
        rung = {task.number: max(task.issued_ms / 1000, self._rung.get(task.number, 0.0)) for task in tasks}
        ripe = [task for task in tasks if now - rung[task.number] >= GRACE_SECONDS]
        if not ripe:
            return []
        overtaken = self._newest_claimed.get(queue, 0.0) - GRACE_SECONDS
        count = max(len(tasks) - depth, sum(rung[task.number] < overtaken for task in ripe))
        stall = self._stalls.setdefault(queue, _Stall(now))
        probes = stall.probes((len(tasks), tasks[0].number, tasks[0].attempt, overtaken), now)
        return heapq.nsmallest(max(count, probes), ripe, key=lambda task: (rung[task.number], task.number))


class _Stall:
    """How long nothing has moved on a queue."""

    def __init__(self, now: float) -> None:
        self._seen: tuple[float, ...] = ()
        self._since = now
        self._patience, self._probes = FIRST_PATIENCE_SECONDS, FIRST_PROBES

    def probes(self, seen: tuple[float, ...], now: float) -> int:
        """How many to ring for because all is as it was for long; mostly none."""
        if seen != self._seen:
            self._seen, self._since = seen, now
            self._patience, self._probes = FIRST_PATIENCE_SECONDS, FIRST_PROBES
        elif now - self._since >= self._patience:
            probes, self._since = self._probes, now
            self._patience, self._probes = 2 * self._patience, 2 * self._probes
            return probes
        return 0
