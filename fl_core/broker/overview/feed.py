"""A campaign's past as monitors read it: one bounded Redis Stream, written by the coordinator under its fence.

Each entry holds three fields:

=====  ================================================================================================================
field  holds
=====  ================================================================================================================
``n``  ``fence.count``: rises from entry to entry; a commit that was repeated leaves two entries of one number
``p``  position of the newest entry of the update log that the lines speak of; a resumed coordinator goes on after it
``l``  msgpack list of lines, each the map of a record in ``fl_core/wire/feed_lines.py``
=====  ================================================================================================================

Lines that take more than ``MAX_ENTRY_BYTES`` go into several entries of one commit, so that the number of entries
bounds the bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from fl_core.broker import rows
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.keys import CampaignKeys
from fl_core.broker.lease import Command
from fl_core.broker.line.reply_bound import ReplyTooLong
from fl_core.broker.log import START, read_small
from fl_core.wire.feed_lines import FeedLine, feed_line
from fl_core.wire.mapped import BadMap

MAX_ENTRIES = 10_000
# Most entries take some hundred bytes; one with many workers' names comes near to this.
MAX_ENTRY_BYTES = 2048
MAX_LINE_BYTES = MAX_ENTRY_BYTES - len(msgpack.Packer().pack_array_header(2**16))
# Beside the lines: the two other fields, the stream's own bookkeeping, and entries that wait to be trimmed.
_OVERHEAD_BYTES = 200
MAX_BYTES = MAX_ENTRIES * (MAX_ENTRY_BYTES + _OVERHEAD_BYTES)
# An ended campaign's past is kept for a month: it is a few megabytes at most, and somebody has to pay for them.
KEEP_SECONDS = 30 * 24 * 3600

Line = Mapping[str, Any]
"""As it is written."""


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One entry.

    Attributes:
        position: its name in the stream; ask for what comes after it.
        number: (fence, count).
        log_position: the newest entry of the update log that it covers.
    """

    position: str
    number: tuple[int, int]
    log_position: str
    lines: tuple[FeedLine, ...]


def feed_commands(
    keys: CampaignKeys, fence: int, count: int, log_position: str, lines: Sequence[Line]
) -> list[Command]:
    """Append lines, numbered from ``count`` on, one number per command; the oldest entries make room.

    A line that is larger than an entry may be is left out: the makers of lines bound them (``line_bytes``).
    """
    entries: list[list[bytes]] = [[]]
    room = MAX_LINE_BYTES
    for line in lines:
        packed = msgpack.packb(line)
        if len(packed) > MAX_LINE_BYTES:
            continue
        if len(packed) > room:
            entries.append([])
            room = MAX_LINE_BYTES
        room -= len(packed)
        entries[-1].append(packed)
    header = msgpack.Packer().pack_array_header
    return [
        ["XADD", keys.feed, "MAXLEN", "~", str(MAX_ENTRIES), "*",
         "n", f"{fence}.{count + index}", "p", log_position, "l", header(len(packed)) + b"".join(packed)]
        for index, packed in enumerate(entries)
        if packed
    ]  # fmt: skip


def line_bytes(line: Line) -> int:
    """What a line takes of an entry's ``MAX_ENTRY_BYTES``."""
    return len(msgpack.packb(line))


def expire_commands(keys: CampaignKeys) -> list[Command]:
    """The campaign is over: let its past go, in time."""
    return [["EXPIRE", keys.feed, str(KEEP_SECONDS)]]


def covered_position(client: Client, keys: CampaignKeys) -> str:
    """Up to where in the update log the feed has been written; ``0-0`` if there is none."""
    if rows.too_large(client, [keys.feed], 2 * MAX_BYTES):
        return START
    with broker_errors("reading the feed"):
        try:
            newest = client.xrevrange(keys.feed, count=10)
        except ReplyTooLong:
            return START
    entries = rows.good(keys.feed, newest, lambda item: _entry(*item))
    return entries[0].log_position if entries else START


def read_feed(client: Client, keys: CampaignKeys, after: str, limit: int) -> tuple[list[FeedEntry], str]:
    """At most ``limit`` entries after a position (``0-0``: from the oldest), and the position up to which was read.

    Entries of one number are one entry that was written twice; those that cannot be read are left out.

    Raises:
        BrokerUnavailable: unknown.
    """
    if rows.too_large(client, [keys.feed], 2 * MAX_BYTES):
        return [], after
    with broker_errors("reading the feed"):
        try:
            items = client.xrange(keys.feed, min=f"({after}", count=limit)
        except ReplyTooLong:
            found = read_small(client, keys.feed, after, limit)
            items = [(place, dict(zip(words[::2], words[1::2], strict=False))) for place, words in found]
    return rows.good(keys.feed, items, lambda item: _entry(*item)), items[-1][0].decode() if items else after


def _entry(position: bytes, fields: dict[bytes, bytes]) -> FeedEntry:
    """One entry.

    Raises:
        BadRow: no coordinator wrote it.
    """
    if not fields.keys() >= {b"n", b"p", b"l"}:
        raise rows.BadRow("no entry of a feed")
    fence, _, count = fields[b"n"].partition(b".")
    lines = rows.plain(fields[b"l"], 2 * MAX_ENTRY_BYTES)
    if not isinstance(lines, list):
        raise rows.BadRow("no lines")
    return FeedEntry(
        rows.position(position),
        (rows.number(fence), rows.number(count)),
        rows.position(fields[b"p"]),
        tuple(_formed(lines)),
    )


def _formed(lines: Sequence[object]) -> Iterator[FeedLine]:
    """Those that have the form of their kind; no coordinator wrote the others."""
    for line in lines:
        with contextlib.suppress(BadMap):
            yield feed_line(line)
