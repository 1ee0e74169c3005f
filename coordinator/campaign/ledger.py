"""The ledger: every task that was issued and what became of it.

A task is *out* until it ends as exactly one of merged, rejected, expired or cancelled, so that at any time::

    issued = merged + rejected + expired + cancelled + out

Tasks are numbered 1, 2, 3, ..., which makes "was this one ever issued, and has it ended?" a question that needs no
memory of the past. Updates that answer no open task (duplicates, strangers) end nothing; they are counted aside.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fl_core.errors import InvariantError, Reason

# As many as the quarantine keeps, and some.
MAX_READMITTABLE = 1024


@dataclass(slots=True)
class OpenTask:
    """A task that has not ended.

    Attributes:
        attempt: which issue of it is out, from 1; a doorbell of an earlier one is void.
        failures: attempts that were spent (the worker was lost, or its code raised); handing back spends none.
        issued_ms: when this attempt was issued, server's clock.
    """

    number: int
    attempt: int
    failures: int
    queue: str
    issued_ms: int


@dataclass(slots=True)
class Ledger:
    """Counts and open tasks.

    Attributes:
        open: tasks that a worker may still answer, by number.
        buffered: tasks whose update was admitted and waits for its merge, by arrival.
        expired_numbers, cancelled_numbers: kept to tell a late update what happened.
        rejected_numbers: the newest rejected tasks; only those can be readmitted.
        surplus: updates that answered no open task, by reason; no part of the identity.
    """

    issued: int = 0
    merged: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    expired: int = 0
    cancelled: int = 0
    reissued: int = 0
    surplus: Counter[str] = field(default_factory=Counter)
    open: dict[int, OpenTask] = field(default_factory=dict)
    buffered: list[int] = field(default_factory=list)
    expired_numbers: set[int] = field(default_factory=set)
    cancelled_numbers: set[int] = field(default_factory=set)
    rejected_numbers: dict[int, str] = field(default_factory=dict)

    @property
    def out(self) -> int:
        """Tasks that have not ended: at a worker, in a queue, or admitted and waiting for the merge."""
        return len(self.open) + len(self.buffered)

    @property
    def num_rejected(self) -> int:
        """Tasks that ended with a rejected update."""
        return self.rejected.total()

    def verify(self) -> None:
        """Check the identity.

        Raises:
            InvariantError: it does not hold.
        """
        ended = self.merged + self.num_rejected + self.expired + self.cancelled
        if self.issued != ended + self.out:
            raise InvariantError(
                f"the ledger does not add up: issued {self.issued} != merged {self.merged} + rejected "
                f"{self.num_rejected} + expired {self.expired} + cancelled {self.cancelled} + out {self.out}"
            )

    def issue(self, queues: list[str], now_ms: int) -> list[OpenTask]:
        """Open one task per entry of ``queues``."""
        tasks = [OpenTask(self.issued + 1 + index, 1, 0, queue, now_ms) for index, queue in enumerate(queues)]
        self.issued += len(tasks)
        self.open |= {task.number: task for task in tasks}
        return tasks

    def reissue(self, task: OpenTask, *, queue: str, now_ms: int, spent: bool) -> None:
        """Open the task's next attempt; ``spent`` says whether the last one counts as a failure."""
        task.attempt += 1
        task.failures += spent
        task.queue = queue
        task.issued_ms = now_ms
        self.reissued += 1

    def buffer(self, task: OpenTask) -> None:
        """Its update was admitted and waits for the merge."""
        del self.open[task.number]
        self.buffered.append(task.number)

    def merge_buffered(self, count: int) -> None:
        """The oldest ``count`` buffered tasks were merged."""
        if count > len(self.buffered):
            raise InvariantError(f"{count} updates merged, but only {len(self.buffered)} were buffered")
        del self.buffered[:count]
        self.merged += count

    def reject_buffered(self, start: int, count: int, reason: Reason) -> list[int]:
        """What these buffered tasks have waited for came to nothing; their numbers.

        Args:
            start: how many buffered tasks are older.
        """
        numbers = self.buffered[start : start + count]
        del self.buffered[start : start + count]
        self.rejected[reason.value] += len(numbers)
        return numbers

    def reject(self, task: OpenTask, reason: Reason) -> None:
        """Its update was refused, or its attempts all failed."""
        del self.open[task.number]
        self.rejected[reason.value] += 1
        self.rejected_numbers[task.number] = reason.value
        if len(self.rejected_numbers) > MAX_READMITTABLE:
            del self.rejected_numbers[next(iter(self.rejected_numbers))]

    def can_readmit(self, number: int, reason: str) -> bool:
        """Whether this task ended with a rejection for this reason, not too long ago, and was not readmitted since."""
        return self.rejected_numbers.get(number) == reason

    def readmit(self, number: int, reason: str) -> None:
        """Take a rejection back: its update waits for the merge now."""
        del self.rejected_numbers[number]
        self.rejected[reason] -= 1
        self.rejected += Counter()  # drops a reason that is at zero
        self.buffered.append(number)

    def expire(self, task: OpenTask) -> None:
        """Nobody answered it in time, attempt after attempt."""
        del self.open[task.number]
        self.expired += 1
        self.expired_numbers.add(task.number)

    def cancel_open(self) -> list[int]:
        """The campaign ended: nobody waits for the open tasks any more."""
        numbers = list(self.open)
        self.cancelled += len(numbers)
        self.cancelled_numbers.update(numbers)
        self.open.clear()
        return numbers

    def cancel_buffered(self) -> None:
        """The campaign ended on the version that it has: what waited for the next one is not merged."""
        self.cancelled += len(self.buffered)
        self.cancelled_numbers.update(self.buffered)
        self.buffered.clear()

    def why_closed(self, number: int) -> tuple[Reason, str]:
        """What to answer to an update of a task that is not open."""
        if not 1 <= number <= self.issued:
            return Reason.UNKNOWN_TASK, f"task {number} was never issued"
        if number in self.expired_numbers:
            return Reason.TASK_CLOSED, f"task {number} has expired"
        if number in self.cancelled_numbers:
            return Reason.TASK_CLOSED, f"task {number} was cancelled"
        return Reason.DUPLICATE, f"task {number} was already answered"

    def export(self) -> dict[str, Any]:
        """Everything, as plain msgpack types."""
        return {
            "issued": self.issued,
            "merged": self.merged,
            "rejected": dict(self.rejected),
            "expired": self.expired,
            "cancelled": self.cancelled,
            "reissued": self.reissued,
            "surplus": dict(self.surplus),
            "open": [[t.number, t.attempt, t.failures, t.queue, t.issued_ms] for t in self.open.values()],
            "buffered": list(self.buffered),
            "expired_numbers": sorted(self.expired_numbers),
            "cancelled_numbers": sorted(self.cancelled_numbers),
            "rejected_numbers": list(self.rejected_numbers.items()),
        }

    def restore(self, exported: dict[str, Any]) -> None:
        """The inverse of ``export``."""
        for name in ("issued", "merged", "expired", "cancelled", "reissued"):
            setattr(self, name, exported[name])
        self.rejected, self.surplus = Counter(exported["rejected"]), Counter(exported["surplus"])
        self.open = {row[0]: OpenTask(*row) for row in exported["open"]}
        self.buffered = list(exported["buffered"])
        self.expired_numbers = set(exported["expired_numbers"])
        self.cancelled_numbers = set(exported["cancelled_numbers"])
        self.rejected_numbers = dict(exported["rejected_numbers"])


def task_id(secret: bytes, number: int) -> str:
    """A task's id: its number, and a tail that only a holder of the campaign's secret can make.

    >>> task_id(b"secret", 7)
    '7-878dba9d9db1'
    """
    tail = hashlib.blake2b(b"task %d" % number, key=secret, digest_size=6).hexdigest()
    return f"{number}-{tail}"


def task_number(secret: bytes, identifier: str) -> int | None:
    """The number of a genuine task id, None for anything else.

    >>> task_number(b"secret", task_id(b"secret", 7)), task_number(b"secret", "7-000000000000")
    (7, None)
    """
    number, _, _ = identifier.partition("-")
    if not (number.isascii() and number.isdigit() and len(number) <= 16):
        return None
    return int(number) if task_id(secret, int(number)) == identifier else None
