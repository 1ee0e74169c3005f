"""What a campaign's keys hold, as values: open tasks, their owners, parked updates.

The rows of the first two are read and written by the scripts as well: ``fl_core/broker/lua/common.lua``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from fl_core.broker import rows
from fl_core.program.plain_text import shown_lines

MAX_PARKED_BYTES = 256 * 1024


_PARKED_TEXTS = ("reason", "detail", "worker")


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


@dataclass(frozen=True, slots=True)
class Parked:
    """A rejected update in quarantine.

    Attributes:
        task: number of the task that it ended; None if it answered no open task.
        header, payload: as they came; the payload is empty if it was too large to park.
        payload_bytes: what the sender declared.
        milliseconds: when it arrived, server's clock.
        position: its name in the quarantine; empty before it is parked.
    """

    reason: str
    detail: str
    worker: str
    task: int | None
    header: bytes
    payload: bytes
    payload_bytes: int
    milliseconds: int
    position: str = ""

    @property
    def has_payload(self) -> bool:
        """Whether all of it is here."""
        return len(self.payload) == self.payload_bytes


def read_parked(position: bytes, fields: dict[bytes, bytes]) -> Parked:
    """An entry of the quarantine.

    Raises:
        BadRow: no coordinator wrote it.
    """
    text = {name: shown_lines(fields.get(name.encode(), b"")[:2000].decode(errors="replace")) for name in _PARKED_TEXTS}
    task = fields.get(b"task", b"")
    header, payload = fields.get(b"header", b""), fields.get(b"payload", b"")
    if max(len(header), len(payload)) > MAX_PARKED_BYTES:
        raise rows.BadRow("larger than what is parked")
    return Parked(
        **text,
        task=rows.number(task) if task else None,
        header=header,
        payload=payload,
        payload_bytes=rows.number(fields.get(b"bytes", b"0")),
        milliseconds=rows.number(fields.get(b"ms", b"0"), rows.MAX_MILLISECONDS),
        position=rows.position(position),
    )
