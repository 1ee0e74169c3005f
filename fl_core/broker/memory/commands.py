"""The commands of a twin: those that fedtide sends, each a method by the command's name, with the replies of RESP 2."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import redis

from fl_core.broker.memory.keyspace import Keyspace
from fl_core.broker.memory.sorted_sets import SortedSetCommands
from fl_core.broker.memory.streams import StreamCommands

_INFO = """redis_version:7.4.0
redis_mode:standalone
run_id:in-memory
role:master
used_memory:0
maxmemory:0
maxmemory_policy:noeviction
evicted_keys:0
"""


class Commands:
    """Runs commands one after the other on one keyspace.

    Args:
        keyspace: theirs.

    Attributes:
        sorted_sets, streams: the commands on those.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self._keys = keyspace
        self.sorted_sets = SortedSetCommands(keyspace)
        self.streams = StreamCommands(keyspace)
        self._by_name: dict[bytes, Callable[..., Any]] = {
            name[3:].upper().replace("_", " ").encode(): getattr(group, name)
            for group in (self, self.sorted_sets, self.streams)
            for name in dir(group)
            if name.startswith("do_")
        }

    def run(self, words: Sequence[bytes]) -> Any:
        """Run one command.

        Raises:
            redis.ResponseError: as the server would refuse it.
        """
        name = words[0].upper()
        command = self._by_name.get(name)
        if command is not None:
            return command(*words[1:])
        if len(words) > 1 and (command := self._by_name.get(name + b" " + words[1].upper())) is not None:
            return command(*words[2:])
        raise redis.ResponseError(f"unknown command '{words[0].decode(errors='replace')}'")

    # -- the server ------------------------------------------------------------------------------------------------

    def do_ping(self) -> bytes:
        return b"PONG"

    def do_time(self) -> list[bytes]:
        micros = int(self._keys.now_ms * 1000)
        return [b"%d" % (micros // 10**6), b"%d" % (micros % 10**6)]

    def do_info(self, *sections: bytes) -> bytes:
        return _INFO.encode()

    def do_flushall(self) -> bytes:
        self._keys.clear()
        return b"OK"

    def do_dbsize(self) -> int:
        return self._keys.num_keys()

    # -- keys ------------------------------------------------------------------------------------------------------

    def do_del(self, *keys: bytes) -> int:
        return sum(self._keys.drop(key) for key in keys)

    do_unlink = do_del

    def do_exists(self, *keys: bytes) -> int:
        return sum(self._keys.exists(key) for key in keys)

    def do_type(self, key: bytes) -> bytes:
        return self._keys.type_of(key)

    def do_expire(self, key: bytes, seconds: bytes) -> int:
        return self._keys.end_at(key, self._keys.now_ms + 1000 * int(seconds))

    def do_pexpire(self, key: bytes, milliseconds: bytes) -> int:
        return self._keys.end_at(key, self._keys.now_ms + int(milliseconds))

    def do_persist(self, key: bytes) -> int:
        return self._keys.end_at(key, None)

    def do_ttl(self, key: bytes) -> int:
        left = self._keys.left_ms(key)
        return left if left < 0 else round(left / 1000)

    def do_pttl(self, key: bytes) -> int:
        return self._keys.left_ms(key)

    def do_keys(self, pattern: bytes) -> list[bytes]:
        return list(self._keys.matching(pattern))

    def do_scan(self, cursor: bytes, *options: bytes) -> list[Any]:
        given = {options[at].upper(): options[at + 1] for at in range(0, len(options), 2)}
        found = self._keys.matching(given.get(b"MATCH", b"*"))
        wanted = given.get(b"TYPE")
        return [b"0", [key for key in found if wanted in (None, self._keys.type_of(key))]]

    def do_memory_usage(self, key: bytes, *options: bytes) -> int | None:
        return self._keys.memory_of(key, int(options[1])) if options else self._keys.memory_of(key)

    # -- strings ---------------------------------------------------------------------------------------------------

    def do_get(self, key: bytes) -> bytes | None:
        return self._keys.string(key)

    def do_mget(self, *keys: bytes) -> list[bytes | None]:
        return [self._keys.string(key) if self._keys.type_of(key) == b"string" else None for key in keys]

    def do_set(self, key: bytes, value: bytes, *options: bytes) -> bytes:
        given = [option.upper() for option in options]
        self._keys.put(key, value, keep_end=b"KEEPTTL" in given)
        for unit, factor in ((b"PX", 1), (b"EX", 1000)):
            if unit in given:
                self._keys.end_at(key, self._keys.now_ms + factor * int(options[given.index(unit) + 1]))
        return b"OK"

    def do_mset(self, *pairs: bytes) -> bytes:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            self._keys.put(key, value)
        return b"OK"

    def do_getrange(self, key: bytes, start: bytes, end: bytes) -> bytes:
        first, last = int(start), int(end)
        value = self._keys.string(key) or b""
        return value[first : len(value) if last == -1 else last + 1]

    def do_setrange(self, key: bytes, offset: bytes, part: bytes) -> int:
        value, at = self._keys.string(key) or b"", int(offset)
        whole = value[:at].ljust(at, b"\0") + part + value[at + len(part) :]
        self._keys.put(key, whole, keep_end=True)
        return len(whole)

    def do_strlen(self, key: bytes) -> int:
        return len(self._keys.string(key) or b"")

    def do_incr(self, key: bytes) -> int:
        count = _whole(self._keys.string(key) or b"0") + 1
        self._keys.put(key, b"%d" % count, keep_end=True)
        return count

    # -- hashes ----------------------------------------------------------------------------------------------------

    def do_hset(self, key: bytes, *pairs: bytes) -> int:
        fields = self._keys.made(key, dict)
        before = len(fields)
        fields.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(fields) - before

    def do_hsetnx(self, key: bytes, field: bytes, value: bytes) -> int:
        return 0 if field in self._keys.hash(key) else self.do_hset(key, field, value)

    def do_hget(self, key: bytes, field: bytes) -> bytes | None:
        return self._keys.hash(key).get(field)

    def do_hmget(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        found = self._keys.hash(key)
        return [found.get(field) for field in fields]

    def do_hgetall(self, key: bytes) -> list[bytes]:
        return [word for pair in self._keys.hash(key).items() for word in pair]

    def do_hkeys(self, key: bytes) -> list[bytes]:
        return list(self._keys.hash(key))

    def do_hvals(self, key: bytes) -> list[bytes]:
        return list(self._keys.hash(key).values())

    def do_hlen(self, key: bytes) -> int:
        return len(self._keys.hash(key))

    def do_hexists(self, key: bytes, field: bytes) -> int:
        return int(field in self._keys.hash(key))

    def do_hdel(self, key: bytes, *fields: bytes) -> int:
        found = self._keys.hash(key)
        count = sum(found.pop(field, None) is not None for field in fields)
        self._keys.tidy(key)
        return count

    def do_hincrby(self, key: bytes, field: bytes, by: bytes) -> int:
        count = _whole(self._keys.hash(key).get(field, b"0")) + _whole(by)
        self._keys.made(key, dict)[field] = b"%d" % count
        return count

    def do_hscan(self, key: bytes, cursor: bytes, *options: bytes) -> list[Any]:
        return [b"0", self.do_hgetall(key)]

    # -- lists and sets --------------------------------------------------------------------------------------------

    def do_lpush(self, key: bytes, *items: bytes) -> int:
        queue: deque[bytes] = self._keys.made(key, deque)
        queue.extendleft(items)
        return len(queue)

    def do_rpush(self, key: bytes, *items: bytes) -> int:
        queue: deque[bytes] = self._keys.made(key, deque)
        queue.extend(items)
        return len(queue)

    def do_lindex(self, key: bytes, at: bytes) -> bytes | None:
        queue, index = self._keys.queue(key), int(at)
        return queue[index] if -len(queue) <= index < len(queue) else None

    def do_ltrim(self, key: bytes, start: bytes, end: bytes) -> bytes:
        queue = self._keys.queue(key)
        if (start, end) == (b"1", b"-1"):  # as it is mostly trimmed
            if queue:
                queue.popleft()
        else:
            kept = self.do_lrange(key, start, end)
            queue.clear()
            queue.extend(kept)
        self._keys.tidy(key)
        return b"OK"

    def do_rpop(self, key: bytes) -> bytes | None:
        queue = self._keys.queue(key)
        item = queue.pop() if queue else None
        self._keys.tidy(key)
        return item

    def do_llen(self, key: bytes) -> int:
        return len(self._keys.queue(key))

    def do_lrange(self, key: bytes, start: bytes, end: bytes) -> list[bytes]:
        queue = self._keys.queue(key)
        first, last = (at if at >= 0 else len(queue) + at for at in (int(start), int(end)))
        return list(itertools.islice(queue, max(0, first), max(0, last + 1)))

    def do_lrem(self, key: bytes, count: bytes, item: bytes) -> int:
        queue, left = self._keys.queue(key), int(count)
        chosen = range(len(queue)) if left >= 0 else range(len(queue) - 1, -1, -1)
        found = list(itertools.islice((at for at in chosen if queue[at] == item), abs(left) or None))
        for at in sorted(found, reverse=True):
            del queue[at]
        self._keys.tidy(key)
        return len(found)

    def do_sadd(self, key: bytes, *members: bytes) -> int:
        found: set[bytes] = self._keys.made(key, set)
        before = len(found)
        found.update(members)
        return len(found) - before

    def do_smembers(self, key: bytes) -> list[bytes]:
        return sorted(self._keys.members(key))

    def do_sscan(self, key: bytes, cursor: bytes, *options: bytes) -> list[Any]:
        return [b"0", self.do_smembers(key)]


def _whole(word: bytes) -> int:
    try:
        return int(word)
    except ValueError:
        raise redis.ResponseError("value is not an integer or out of range") from None
