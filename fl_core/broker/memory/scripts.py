"""The functions of ``fl_core/broker/lua``, of the same meaning in Python; each has the name of its file.

What keys and arguments are, and what the answers, the Lua files say. That both do the same is shown by tests that run
against a server and against the twin.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgpack
import redis

from fl_core.broker import scripts
from fl_core.broker.memory.claim import Words, attempt_of, claim, read_open, read_owner, tried
from fl_core.broker.memory.commands import Commands
from fl_core.broker.memory.keyspace import Keyspace

_FENCE = re.compile(rb"([0-9]+)\|(.*)", re.DOTALL)
_TOKEN = re.compile(rb"[0-9]+\|([0-9A-Fa-f]+)\|")
_SENT = re.compile(rb"([urk])([0-9]+):")


class Scripts:
    """Runs functions by their names.

    Args:
        keyspace: what they work on.
        commands: those that a script may call by name.
    """

    def __init__(self, keyspace: Keyspace, commands: Commands) -> None:
        self._keys = keyspace
        self._do = commands
        self._by_name: dict[bytes, Callable[[Words, Words], Any]] = {}
        for name in (each for each in dir(self) if not each.startswith("_") and each != "run"):
            self._by_name[f"{name.removesuffix('_')}_{scripts.VERSION}".encode()] = getattr(self, name)

    def run(self, name: bytes, words: Words) -> Any:
        """Run one: the number of keys, the keys, the arguments.

        Raises:
            redis.ResponseError: there is none of that name, or it refuses.
        """
        script = self._by_name.get(name)
        if script is None:
            raise redis.ResponseError("Function not found")
        end = 1 + int(words[0])
        return script(words[1:end], words[end:])

    # -- a device's ------------------------------------------------------------------------------------------------

    def claim(self, keys: Words, args: Words) -> Any:
        return claim(self._keys, self._do, keys, args)

    def deliver(self, keys: Words, args: Words) -> Any:
        inbox, bell, open_tasks, pins, incarnation_key, said = keys
        task, attempt, entry, *chunks = args
        incarnation = self._keys.string(incarnation_key)
        if incarnation is None or incarnation == b"ended":
            return b"unknown" if incarnation is None else b"over"
        for chunk in chunks:
            if not self._keys.exists(chunk):
                raise redis.ResponseError("MISSINGCHUNK " + chunk.decode(errors="replace"))
        if self._do.do_llen(inbox) >= 2 * self._do.do_hlen(open_tasks) + scripts.INBOX_SLACK:
            return b"full"
        for chunk in chunks:
            self._keys.end_at(chunk, None)
        self._put(inbox, bell, entry)
        if read_open(self._keys.hash(open_tasks).get(task))[0] == attempt:
            self._say(said, open_tasks, attempt_of(task, attempt), b"answered")
        self._do.do_hdel(pins, task)
        return b"ok"

    def moving(self, keys: Words, args: Words) -> int:
        open_tasks, owners, said = keys
        task, attempt, worker = args
        current = read_open(self._keys.hash(open_tasks).get(task))[0]
        if current is None:
            return 0
        field = attempt_of(task, current)
        owner = read_owner(self._keys.hash(owners).get(field))
        if owner is not None and owner != worker:
            return 0
        if owner is not None and current == attempt and tried(self._do.do_hget, said, field) != b"answered":
            self._say(said, open_tasks, field, b"%d" % int(self._keys.now_ms))
        return 1

    def said(self, keys: Words, args: Words) -> list[bytes]:
        words = []
        for key, field in zip(keys, args, strict=True):
            word = tried(self._do.do_hget, key, field) or b""
            words.append(word if len(word) <= 20 else b"")
        return words

    def _say(self, said: bytes, open_tasks: bytes, attempt: bytes, word: bytes) -> None:
        fields = tried(self._do.do_hkeys, said)
        if fields is None:
            return
        for field in fields:
            task, _, number = field.rpartition(b"#")
            if read_open(self._keys.hash(open_tasks).get(task))[0] != number:
                self._do.do_hdel(said, field)
        self._do.do_hset(said, attempt, word)
        self._keys.end_at(said, self._keys.now_ms + 1000 * scripts.SAID_SECONDS)

    def _put(self, inbox: bytes, bell: bytes, entry: bytes) -> None:
        if self._do.do_rpush(inbox, entry) == 1:
            tried(self._do.streams.do_xadd, bell, b"MAXLEN", b"1", b"*", b"x", b"")

    def arrived(self, keys: Words, args: Words) -> list[Any]:
        there = self._keys.string(keys[0])
        if there is None:
            return [0, b""]
        self._do.do_expire(keys[0], args[0])
        return [len(there), hashlib.sha1(there).hexdigest().encode()]

    def report(self, keys: Words, args: Words) -> Any:
        inbox, bell, owners, open_tasks, pins, incarnation_key, said = keys
        task, attempt, worker, entry = args
        if self._keys.string(incarnation_key) in (None, b"ended"):
            return None
        field = attempt_of(task, attempt)
        owner = self._keys.hash(owners).get(field)
        if owner is not None and (read_owner(owner) != worker or tried(self._do.do_hget, said, field) == b"answered"):
            return None
        self._put(inbox, bell, entry)
        if owner is not None:
            self._say(said, open_tasks, field, b"answered")
        self._do.do_hdel(pins, task)
        return 1

    def beat(self, keys: Words, args: Words) -> int:
        device, *registers = keys
        name, token, beat, held, due_ms = args
        now, zset = int(self._keys.now_ms), self._do.sorted_sets
        if self._keys.type_of(device) not in (b"none", b"hash"):
            self._keys.drop(device)
        before = _TOKEN.match(self._keys.hash(device).get(b"row") or b"")
        if before is not None and before[1] != token:
            for register in registers:
                zset.do_zrem(register, b"%b %b" % (name, before[1]))
        self._do.do_hset(device, b"row", b"%d|%b|%b" % (now, token, held), b"beat", beat)
        self._keys.end_at(device, self._keys.now_ms + scripts.FORGET_MS)
        for register in registers:
            due = now if register is registers[0] else now + int(due_ms)
            zset.do_zadd(register, b"%d" % due, b"%b %b" % (name, token))
        return 1

    # -- the coordinator's -----------------------------------------------------------------------------------------

    def fenced(self, keys: Words, args: Words) -> int:
        writer, fence_key, incarnation_key, commits = keys
        token, fence, incarnation, lease_ms, mark_before, doubtful_mark, mark, packed = args
        found_mark = self._keys.string(commits) or b""
        if found_mark == mark:
            return 0
        if self._keys.string(incarnation_key) != incarnation:
            raise redis.ResponseError("LOSTDATA gone")
        self._refuse(writer, fence_key, token, fence, found_mark, mark_before, doubtful_mark)
        if self._keys.string(writer) is None:
            self._do.do_set(writer, token, b"PX", lease_ms)
        for words in msgpack.unpackb(packed, raw=True):
            if words[0] == b"HINCRBY":
                tried(self._do.run, words)
            else:
                self._do.run(words)
        self._do.do_set(commits, mark, b"KEEPTTL")
        return 1

    fenced_freeing = fenced

    def intake(self, keys: Words, args: Words) -> int:
        writer, fence_key, commits, inbox, log, bell = keys
        token, fence, mark_before, doubtful_mark, count, max_bytes, max_entry_bytes = args
        found_mark = self._keys.string(commits) or b""
        self._refuse(writer, fence_key, token, fence, found_mark, mark_before, doubtful_mark)
        self._do.do_del(bell)
        left = int(max_bytes)
        for _ in range(int(count)):
            entry = self._do.do_lindex(inbox, b"0") if left > 0 else None
            if entry is None:
                break
            left -= len(entry)
            head = _SENT.match(entry[:12])
            header_end = head.end() + int(head[2]) if head else 0
            if head is None or len(entry) > int(max_entry_bytes) or header_end > len(entry):
                words = [b"u", b""]
            else:
                payload = entry[header_end:]
                words = [head[1], entry[head.end() : header_end], *([b"p", payload] if payload else [])]
            self._do.streams.do_xadd(log, b"*", *words)
            self._do.do_ltrim(inbox, b"1", b"-1")
        return self._do.do_llen(inbox)

    def _refuse(
        self, writer: bytes, fence_key: bytes, token: bytes, fence: bytes, found_mark: bytes, *known_marks: bytes
    ) -> None:
        """As ``refusal`` in ``common.lua``."""
        found = _FENCE.fullmatch(self._keys.string(fence_key) or b"")
        if found is None:
            raise redis.ResponseError("LOSTDATA incomplete")
        if int(found[1]) < int(fence):
            raise redis.ResponseError("LOSTDATA older")
        if found[2] != token or self._keys.string(writer) not in (None, token):
            raise redis.ResponseError("FENCEDOUT")
        if found_mark not in known_marks:
            raise redis.ResponseError("LOSTDATA " + ("older" if found_mark else "incomplete"))

    def acquire(self, keys: Words, args: Words) -> Any:
        writer, fence_key, commits = keys
        token, lease_ms, floor = args
        if self._keys.string(writer) not in (None, token):
            return None
        self._do.do_set(writer, token, b"PX", lease_ms)
        found = _FENCE.fullmatch(self._keys.string(fence_key) or b"")
        before = int(found[1]) if found is not None else 0
        fence = b"%d" % (max(before if before <= 2**52 else 0, int(floor)) + 1)
        self._do.do_set(fence_key, fence + b"|" + token)
        return [fence, self._keys.string(commits) or b""]

    def renew(self, keys: Words, args: Words) -> int:
        writer, fence_key = keys
        token, fence, lease_ms = args
        holder = self._keys.string(writer)
        if holder != token:
            found = _FENCE.fullmatch(self._keys.string(fence_key) or b"")
            if found is None or int(found[1]) < int(fence):
                return 1
            if holder is not None or found[2] != token:
                return 0
        self._do.do_set(writer, token, b"PX", lease_ms)
        return 1

    def release(self, keys: Words, args: Words) -> int:
        return int(self._keys.string(keys[0]) == args[0] and self._keys.drop(keys[0]))

    def continue_(self, keys: Words, args: Words) -> int:
        self._keys.end_at(keys[0], None)
        try:
            added = self._do.streams.do_xadd(keys[0], args[0], b"x", b"")
        except redis.ResponseError:
            return 0
        self._do.streams.do_xdel(keys[0], added)
        return 1

    def drop_orphaned(self, keys: Words, args: Words) -> int:
        if self._keys.exists(keys[0]):
            return 0
        self._do.do_unlink(*keys[1:])
        return 1

    # -- reading ---------------------------------------------------------------------------------------------------

    def devices(self, keys: Words, args: Words) -> list[bytes | None]:
        found: list[bytes | None] = []
        for key in keys:
            held = self._keys.hash(key) if self._keys.type_of(key) == b"hash" else {}
            values = [held.get(field) for field in args]
            found += [None if value is None or len(value) > scripts.MAX_FIELD_BYTES else value for value in values]
        return found

    def read_small(self, keys: Words, args: Words) -> list[list[Any]]:
        after, limit = args[0], int(args[2])
        page: list[list[Any]] = []
        left = limit
        while len(page) < int(args[1]):
            entries = self._do.streams.do_xrange(keys[0], b"(" + after, b"+", b"COUNT", b"1")
            if not entries:
                break
            position, words = entries[0]
            size = sum(map(len, words))
            if left < size <= limit:
                break
            page.append([position, words if size <= limit else []])
            if size > limit:
                break
            left, after = left - size, position
        return page

    def stream_end(self, keys: Words, args: Words) -> bytes:
        if not self._keys.exists(keys[0]):
            return b"0-0"
        found: bytes = self._do.streams.do_xinfo_stream(keys[0])[3]
        return found
