"""The rows of a campaign's tasks, as values: open tasks, and who has which.

The scripts read and write them as well: ``lua/common.lua``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from fl_core.broker import rows


def is_attempt(row: bytes | None, attempt: int) -> bool:
    """Whether a row of an open task says that this attempt is the one that counts.

    >>> is_attempt(b"2|1700000000000|gpu", 2), is_attempt(b"2|1700000000000|gpu", 1), is_attempt(None, 1)
    (True, False, False)
    """
    return row is not None and row.startswith(b"%d|" % attempt)


@dataclass(frozen=True, slots=True)
class OpenRow:
    """An open task as workers find it: its id, the attempt that counts, when that was issued, and its queue."""

    task_id: str
    attempt: int
    issued_ms: int
    queue: str

    def to_row(self) -> str:
        """As the scripts read it.

        >>> OpenRow("7-ab", 1, 1700000000000, "gpu").to_row()
        '1|1700000000000|gpu'
        """
        return f"{self.attempt}|{self.issued_ms}|{self.queue}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who claimed a task: the attempt, when (server's clock), and whether its update is in the log already."""

    attempt: int
    claimed_ms: int
    delivered: bool
    worker: str

    @classmethod
    def from_row(cls, row: bytes) -> Self:
        """As ``CLAIM`` and ``DELIVER`` write it.

        Raises:
            BadRow: they did not.
        """
        attempt, claimed, delivered, worker = rows.parts(row, 4)
        return cls(rows.number(attempt), rows.number(claimed), delivered == b"1", rows.name(worker))
