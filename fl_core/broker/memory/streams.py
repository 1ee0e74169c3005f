"""The commands on streams, and how a reader waits for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis

from fl_core.broker.memory.keyspace import Keyspace
from fl_core.broker.memory.stream import FIRST, LAST, Position, Stream, read_position, write_position


class StreamCommands:
    """Those that fedtide sends; see ``commands.py``.

    Attributes:
        on_wait: called with a moment of the server's clock while a reader waits until then for something to read: it
            moves the clock and may write. Without it the time passes in silence.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self._keys = keyspace
        self.on_wait: Callable[[float], None] | None = None

    def do_xadd(self, key: bytes, *words: bytes) -> bytes:
        at, most = 0, None
        if words[0].upper() == b"MAXLEN":
            at = 2 if words[1] in (b"~", b"=") else 1
            most = int(words[at])
            at += 1
        found = self._keys.stream(key)
        stream = Stream() if found is None else found
        position = stream.add(words[at], self._keys.now_ms, list(words[at + 1 :]))
        if found is None:  # not before: a refused entry leaves no stream behind
            self._keys.put(key, stream)
        if most is not None:
            stream.keep_newest(most)
        return position

    def do_xlen(self, key: bytes) -> int:
        return len(self._keys.stream(key) or ())

    def do_xdel(self, key: bytes, *positions: bytes) -> int:
        stream = self._keys.stream(key)
        return 0 if stream is None else sum(stream.remove(read_position(position)) for position in positions)

    def do_xtrim(self, key: bytes, how: bytes, *words: bytes) -> int:
        stream, limit = self._keys.stream(key), words[1] if words[0] in (b"~", b"=") else words[0]
        if stream is None:
            return 0
        return stream.trim_below(read_position(limit)) if how.upper() == b"MINID" else stream.keep_newest(int(limit))

    def do_xrange(self, key: bytes, low: bytes, high: bytes, *options: bytes) -> list[list[Any]]:
        return self._some(key, low, high, options, newest=False)

    def do_xrevrange(self, key: bytes, high: bytes, low: bytes, *options: bytes) -> list[list[Any]]:
        return self._some(key, low, high, options, newest=True)

    def _some(self, key: bytes, low: bytes, high: bytes, options: Sequence[bytes], *, newest: bool) -> list[list[Any]]:
        first, last = _low(low), _high(high)
        stream = self._keys.stream(key)
        if stream is None:
            return []
        count = int(options[1]) if options else None
        return [list(entry) for entry in stream.between(first, last, count, newest=newest)]

    def do_xread(self, *words: bytes) -> list[list[Any]] | None:
        at, options = 0, {}
        while words[at].upper() != b"STREAMS":
            options[words[at].upper()] = int(words[at + 1])
            at += 2
        rest = words[at + 1 :]
        half = len(rest) // 2
        wanted = list(zip(rest[:half], map(read_position, rest[half:]), strict=True))
        found = self._news(wanted, options.get(b"COUNT"))
        if found is None and b"BLOCK" in options:
            deadline = self._keys.now_ms + options[b"BLOCK"]
            while found is None and self._keys.now_ms < deadline:
                if self.on_wait is None:
                    self._keys.now_ms = deadline
                else:
                    self.on_wait(deadline)
                found = self._news(wanted, options.get(b"COUNT"))
        return found

    def _news(self, wanted: Sequence[tuple[bytes, Position]], count: int | None) -> list[list[Any]] | None:
        news = []
        for key, position in wanted:
            stream = self._keys.stream(key)
            if stream is not None and (entries := stream.after(position, count)):
                news.append([key, [list(entry) for entry in entries]])
        return news or None

    def do_xinfo_stream(self, key: bytes) -> list[Any]:
        stream = self._keys.stream(key)
        if stream is None:
            raise redis.ResponseError("no such key")
        return [b"length", len(stream), b"last-generated-id", write_position(stream.last)]


def _low(word: bytes) -> Position:
    if word == b"-":
        return FIRST
    position = read_position(word.lstrip(b"("))
    return (position[0], position[1] + 1) if word.startswith(b"(") else position


def _high(word: bytes) -> Position:
    if word == b"+":
        return LAST
    position = read_position(word.lstrip(b"("), sequence=LAST[1])
    if word.startswith(b"(") and position == FIRST:
        raise redis.ResponseError("invalid end ID for the interval")
    return (position[0], position[1] - 1) if word.startswith(b"(") else position
