"""The keys of a twin: values by type, their ends in time, and the clock."""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import redis

from fl_core.broker.line.short_way import Word
from fl_core.broker.memory.stream import Stream

T = TypeVar("T")

# When a twin's clock begins, in milliseconds: an arbitrary moment, the same each time (9 September 2001, 01:46:40).
START_MS = 1_000_000_000_000.0
# What a key takes beside its words; an estimate.
_OVERHEAD_BYTES = 64
_SAMPLES = 5


class SortedSet(dict[bytes, float]):
    """Members and their scores; ordered when it is asked for, since few of ours are large."""

    def count(self, low: float, high: float) -> int:
        """How many scores lie from ``low`` to ``high``."""
        return sum(low <= score <= high for score in self.values())

    def ranked(self, *, reverse: bool = False) -> list[tuple[bytes, float]]:
        """By score, and by name among equals."""
        return sorted(self.items(), key=lambda item: (item[1], item[0]), reverse=reverse)


# A sorted set is a dictionary, too, and comes first.
_TYPES = {bytes: b"string", SortedSet: b"zset", dict: b"hash", deque: b"list", set: b"set", Stream: b"stream"}


def as_bytes(word: Word) -> bytes:
    """A word as it would travel."""
    if type(word) is bytes:
        return word
    if isinstance(word, str):
        return word.encode()
    if isinstance(word, (bytearray, memoryview)):
        return bytes(word)
    return str(word).encode()


class Keyspace:
    """Typed access to the keys that have not ended.

    Attributes:
        now_ms: the server's clock; it is only ever moved forward.
    """

    def __init__(self, now_ms: float = START_MS) -> None:
        self.now_ms = now_ms
        self._values: dict[bytes, Any] = {}
        self._ends: dict[bytes, float] = {}

    # -- values ----------------------------------------------------------------------------------------------------

    def string(self, key: bytes) -> bytes | None:
        """A string's value.

        Raises:
            redis.ResponseError: WRONGTYPE; so with all that follow.
        """
        return self._typed(key, bytes)

    def hash(self, key: bytes) -> dict[bytes, bytes]:
        """A hash's fields; an empty one, not kept, where there is none."""
        return cast("dict[bytes, bytes]", self._typed(key, dict) or {})

    def queue(self, key: bytes) -> deque[bytes]:
        """A list's items, the left end first."""
        return cast("deque[bytes]", self._typed(key, deque) or deque())

    def members(self, key: bytes) -> set[bytes]:
        """A set's members."""
        return cast("set[bytes]", self._typed(key, set) or set())

    def sorted_set(self, key: bytes) -> SortedSet:
        """A sorted set."""
        found = self._typed(key, SortedSet)
        return SortedSet() if found is None else found

    def stream(self, key: bytes) -> Stream | None:
        """A stream; an empty one is still there."""
        return self._typed(key, Stream)

    def made(self, key: bytes, kind: type[T]) -> T:
        """The value of that type to write to, made where there is none."""
        value = self._typed(key, kind)
        if value is None:
            self._values[key] = value = kind()
        return value

    def tidy(self, key: bytes) -> None:
        """A hash, list or set without anything in it is not there."""
        if key in self._values and not self._values[key]:
            self.drop(key)

    def put(self, key: bytes, value: Any, *, keep_end: bool = False) -> None:
        """Replace a key, whatever it was; its end goes unless it is kept."""
        self._values[key] = value
        if not keep_end:
            self._ends.pop(key, None)

    def drop(self, key: bytes) -> bool:
        """Drop a key; False where there was none."""
        there = self.exists(key)
        self._values.pop(key, None)
        self._ends.pop(key, None)
        return there

    def clear(self) -> None:
        """Drop all."""
        self._values.clear()
        self._ends.clear()

    def _typed(self, key: bytes, kind: type[T]) -> T | None:
        value = self._values.get(key)
        if value is None:
            return None
        if key in self._ends and not self.exists(key):
            return None
        if not isinstance(value, kind) or (kind is dict and isinstance(value, SortedSet)):
            raise redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return value

    # -- keys ------------------------------------------------------------------------------------------------------

    def exists(self, key: bytes) -> bool:
        """Whether the key is there; one whose time has come goes now."""
        end = self._ends.get(key)
        if end is not None and end <= self.now_ms:
            self._values.pop(key, None)
            del self._ends[key]
        return key in self._values

    def end_at(self, key: bytes, end_ms: float | None) -> bool:
        """Let a key end then, or never; False where nothing changed."""
        if not self.exists(key):
            return False
        if end_ms is None:
            return self._ends.pop(key, None) is not None
        self._ends[key] = end_ms
        return True

    def left_ms(self, key: bytes) -> int:
        """How long a key still lasts: -1 for ever, -2 where there is none."""
        if not self.exists(key):
            return -2
        return round(self._ends[key] - self.now_ms) if key in self._ends else -1

    def type_of(self, key: bytes) -> bytes:
        """What TYPE answers."""
        if not self.exists(key):
            return b"none"
        return next(name for kind, name in _TYPES.items() if isinstance(self._values[key], kind))

    def matching(self, pattern: bytes) -> Iterator[bytes]:
        """The keys that match, by Redis' rules."""
        # Python's form of the same rules: a character is escaped by brackets.
        text = pattern.decode("utf-8", "surrogateescape")
        words = [f"[{part[0]}]{part[1:]}" if part else "" for part in text.split("\\")[1:]]
        wanted = "".join([text.split("\\")[0], *words])
        for key in [key for key in self._values if self.exists(key)]:
            if fnmatch.fnmatchcase(key.decode("utf-8", "surrogateescape"), wanted):
                yield key

    def num_keys(self) -> int:
        """How many there are."""
        return sum(1 for key in list(self._values) if self.exists(key))

    def memory_of(self, key: bytes, samples: int = _SAMPLES) -> int | None:
        """About what a key takes, by a few of its items (0: by all); None where there is none."""
        if not self.exists(key):
            return None
        value = self._values[key]
        if isinstance(value, bytes):
            return _OVERHEAD_BYTES + len(value)
        if isinstance(value, Stream):
            return _OVERHEAD_BYTES + value.weigh(samples)
        return _OVERHEAD_BYTES + _weigh(value, samples)


def _weigh(value: Any, samples: int) -> int:
    seen = weight = 0
    for item in value.items() if isinstance(value, dict) else value:
        words = item if isinstance(item, tuple) else (item,)
        weight += _OVERHEAD_BYTES + sum(len(word) for word in words if isinstance(word, bytes))
        seen += 1
        if seen == samples:
            break
    return round(weight * len(value) / seen) if seen else 0
