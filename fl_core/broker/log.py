"""The update log: one Redis Stream per campaign, in which everything that decides its course has one place.

The coordinator alone writes it: what devices have sent (``inbox.py``), in the order in which it came, and its own
decisions (events), authenticated by a key that only coordinators have. A campaign's state is a pure function of this
sequence, so a coordinator that died is rebuilt by reading it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fl_core.broker import rows
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Writer
from fl_core.broker.line.reply_bound import ReplyTooLong
from fl_core.broker.line.short_way import Word
from fl_core.broker.scripts import READ_SMALL, Script
from fl_core.errors import BrokerUnfit
from fl_core.wire.events import CampaignEvent
from fl_core.wire.log_entry import LogEntry

START = "0-0"
# More than any entry of ours: an event with its name and its authenticator.
MAX_ENTRY_BYTES = 2 * CampaignEvent.max_bytes
# Of 64 entries each. What is left then is no honest fleet's.
_MOST_MOVES = 100


def is_position(text: str) -> bool:
    """Whether a text can be a position.

    >>> is_position("5-10"), is_position("latest")
    (True, False)
    """
    return re.fullmatch(r"[0-9]{1,20}-[0-9]{1,20}", text) is not None


class LogReader:
    """Reads one campaign's log and its operators' control stream, from a position on.

    Args:
        client, keys: of the campaign.
        position, control_position: of what was read last.
        writer: moves what waits in the inbox into the log before each read; None reads what is there.

    Attributes:
        position, control_position: of what was read last.
        at_end: the last read came to the log's end, and left nothing in the inbox.
    """

    def __init__(
        self,
        client: Client,
        keys: CampaignKeys,
        position: str,
        control_position: str,
        writer: Writer | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._writer = writer
        self.position = position
        self.control_position = control_position
        self.at_end = False

    def peek(self) -> LogEntry | None:
        """The entry that the next read begins with, if it is there already.

        Raises:
            BrokerUnavailable: unknown.
        """
        with broker_errors("reading the update log"):
            try:
                streams = self._read("XREAD", "COUNT", 1, "STREAMS", self._keys.log, self.position)
            except ReplyTooLong:
                streams = [(self._keys.log.encode(), read_small(self._client, self._keys.log, self.position, 1))]
        return _entry(*_rows(self._keys.log, streams[0][1])[0]) if streams else None

    def read(self, *, wait_ms: int, max_entries: int) -> tuple[list[LogEntry], list[tuple[str, dict[bytes, bytes]]]]:
        """The next entries of the log, and of the control stream; both empty when ``wait_ms`` passed in silence.

        Raises:
            BrokerUnavailable: nothing was read; ask again.
            BrokerUnfit: a stream has entries that no clock can have put there, behind which nothing can be written.
            FencedOut, LostData: as the writer says (``lease.Writer.take_in``).
        """
        with broker_errors("reading the update log"):
            try:
                streams = self._read_all(wait_ms, max_entries)
                if streams and all(name == self._keys.bell.encode() for name, _ in streams):
                    streams = self._read_all(0, max_entries)
            except ReplyTooLong:
                places = ((self._keys.log, self.position), (self._keys.control, self.control_position))
                streams = [(key.encode(), read_small(self._client, key, after, max_entries)) for key, after in places]
        entries: list[LogEntry] = []
        requests: list[tuple[str, dict[bytes, bytes]]] = []
        for name, items in streams or ():
            if name == self._keys.log.encode():
                entries = [_entry(*row) for row in _rows(self._keys.log, items)]
            elif name == self._keys.control.encode():
                requests = _rows(self._keys.control, items)
        if requests:
            self._take_in_all()
        if entries:
            self.position = entries[-1].position
        if requests:
            self.control_position = requests[-1][0]
        self.at_end = len(entries) < max_entries and not (self._writer and self._writer.num_waiting)
        return entries, requests

    def _take_in_all(self) -> None:
        """What devices had sent before an operator asked is in the log before what comes of that: a stop merges it."""
        if self._writer is None:
            return
        with broker_errors("reading the update log"):
            for _ in range(_MOST_MOVES):
                self._writer.take_in(("PING",))
                if not self._writer.num_waiting:
                    break

    def _read_all(self, wait_ms: int, max_entries: int) -> Any:
        keys = self._keys
        # The bell is gone once the inbox is taken in: whatever stands there was rung since.
        return self._read(
            "XREAD", "COUNT", max_entries, *(("BLOCK", wait_ms) if wait_ms else ()), "STREAMS",
            keys.log, keys.control, keys.bell, self.position, self.control_position, START,
        )  # fmt: skip

    def _read(self, *words: Word) -> Any:
        return self._client.quick(*words) if self._writer is None else self._writer.take_in(words)


def scan(client: Client, keys: CampaignKeys, after: str = START, page: int = 100) -> Iterator[LogEntry]:
    """All entries after a position, page by page (for replays and inspection; it ends at the present end)."""
    while True:
        with broker_errors("scanning the update log"):
            try:
                items = client.quick("XRANGE", keys.log, f"({after}", "+", "COUNT", page)
            except ReplyTooLong:
                items = read_small(client, keys.log, after, page)
        if not items:
            return
        for position, fields in _pairs(items):
            after = position
            yield _entry(after, fields)


def read_small(client: Client, key: str, after: str, count: int) -> list[tuple[bytes, list[bytes]]]:
    """A stream's next entries, where all of them would be too long: positions, and names and values in turn.

    An entry that is larger than any of ours comes without them.
    """
    found: list[tuple[bytes, list[bytes]]] = Script(client, READ_SMALL)([key], [after, count, MAX_ENTRY_BYTES])
    return found


def _rows(key: str, items: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[tuple[str, dict[bytes, bytes]]]:
    """A stream's entries as XREAD gives them: position and fields.

    Raises:
        BrokerUnfit: the last one, and so the next one to come, has no place that counts.
    """
    if items:
        try:
            rows.position(items[-1][0])
        except rows.BadRow as error:
            raise BrokerUnfit(f"{key}: {error}; somebody else has written there.") from None
    return _pairs(items)


def _pairs(items: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[tuple[str, dict[bytes, bytes]]]:
    found = []
    for position, words in items:
        if sum(map(len, words)) > MAX_ENTRY_BYTES:  # as ``READ_SMALL`` weighs it: every reader finds the same
            words = ()
        found.append((position.decode(), dict(zip(words[::2], words[1::2], strict=False))))
    return found


def _entry(position: str, fields: dict[bytes, bytes]) -> LogEntry:
    for kind, beside in (("u", b"p"), ("e", b"m"), ("r", b""), ("k", b"p")):
        if (header := fields.get(kind.encode())) is not None:
            return LogEntry(position, kind, header, fields.get(beside, b""))
    return LogEntry(position, "?", b"", b"")
