"""Rejected updates in quarantine: what came, why it was rejected, and whether it can still be taken in."""

from __future__ import annotations

from dataclasses import dataclass

from fl_core.broker import rows
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Command
from fl_core.broker.line.reply_bound import ReplyTooLong
from fl_core.broker.log import is_position
from fl_core.program.plain_text import shown_lines

# The quarantine is bounded in count and in bytes: parking never costs the campaign more than this.
MAX_PARKED = 256
MAX_PARKED_BYTES = 256 * 1024
_MAX_BYTES = 3 * MAX_PARKED * MAX_PARKED_BYTES
_PAGE = 32
_TEXTS = ("reason", "detail", "worker")


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
    text = {name: shown_lines(fields.get(name.encode(), b"")[:2000].decode(errors="replace")) for name in _TEXTS}
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


class Quarantine:
    """One campaign's: what is in it, and the commands that a coordinator commits to park and to take out."""

    def __init__(self, client: Client, keys: CampaignKeys) -> None:
        self._client = client
        self._key = keys.parked

    def newest(self, limit: int = MAX_PARKED) -> list[Parked]:
        """Parked updates, the newest first."""
        if rows.too_large(self._client, [self._key], _MAX_BYTES):
            return []
        found: list[Parked] = []
        newest = "+"
        while left := limit:  # in pages: all of it would be too long for one reply
            with broker_errors("reading the quarantine"):
                try:
                    items = self._client.xrevrange(self._key, max=newest, count=min(left, _PAGE))
                except ReplyTooLong:
                    rows.tell(self._key, "an entry is longer than what is parked")
                    break
            if not items:
                break
            found += rows.good(self._key, items, lambda item: read_parked(*item))
            newest, limit = f"({items[-1][0].decode()}", left - len(items)
        return found

    def find(self, position: str) -> Parked | None:
        """One parked update; None if it is not there (any more)."""
        if not is_position(position) or rows.too_large(self._client, [self._key], _MAX_BYTES):
            return None
        with broker_errors("reading the quarantine"):
            try:
                items = self._client.xrange(self._key, position, position)
            except ReplyTooLong:
                return None
        found = rows.good(self._key, items, lambda item: read_parked(*item))
        return found[0] if found else None

    def park_commands(self, parked: Parked) -> list[Command]:
        """Put a rejected update into quarantine; the oldest make room."""
        payload = parked.payload if len(parked.payload) <= MAX_PARKED_BYTES else b""
        fields: list[str | bytes] = ["reason", parked.reason, "detail", parked.detail[:500], "worker", parked.worker]
        fields += ["task", "" if parked.task is None else str(parked.task), "header", parked.header[:MAX_PARKED_BYTES]]
        fields += ["payload", payload, "bytes", str(parked.payload_bytes), "ms", str(parked.milliseconds)]
        return [["XADD", self._key, "MAXLEN", str(MAX_PARKED), "*", *fields]]

    def unpark_commands(self, position: str) -> list[Command]:
        """Take one out of quarantine."""
        return [["XDEL", self._key, position]]
