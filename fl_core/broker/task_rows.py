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


def attempt_name(task_id: str, attempt: int) -> str:
    """Which attempt of a task a row is about.

    >>> attempt_name("7-ab", 2)
    '7-ab#2'
    """
    return f"{task_id}#{attempt}"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who claimed an attempt, and when (server's clock). One whose row cannot be read has no name."""

    worker: str
    claimed_ms: int

    @classmethod
    def from_row(cls, row: bytes) -> Self:
        """As ``claim.lua`` writes it.

        Raises:
            BadRow: it did not.
        """
        worker, claimed = rows.parts(row, 2)
        return cls(rows.name(worker), rows.number(claimed))


ANSWERED = -1
"""What an owner says of an attempt that it has answered, in place of a moment."""


def word_of(said: bytes) -> int | None:
    """What an owner says of an attempt: when bytes of it moved last (server's clock, ms), ``ANSWERED``, or nothing.

    >>> word_of(b"answered"), word_of(b"1700000000000"), word_of(b""), word_of(b"nonsense")
    (-1, 1700000000000, None, None)
    """
    if said == b"answered":
        return ANSWERED
    return int(said) if said.isdigit() and len(said) <= 16 else None
