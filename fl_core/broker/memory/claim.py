"""The script ``claim.lua`` in Python, and the rows that it shares with the other scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import redis

from fl_core.broker import scripts
from fl_core.broker.memory.commands import Commands
from fl_core.broker.memory.keyspace import Keyspace

Words: TypeAlias = Sequence[bytes]

_OPEN = re.compile(rb"([0-9]+)\|([0-9]+)\|")
_OWNER = re.compile(rb"(.+)\|([0-9]+)", re.DOTALL)
_LINK = re.compile(rb"([0-9a-fA-F]+)\|[0-9]+\|([0-9]+)\|")


def read_open(row: bytes | None) -> tuple[bytes | None, bytes | None]:
    """Attempt and time of issue of an open task; None where the row is none."""
    match = _OPEN.match(row or b"")
    return (None, None) if match is None else (match[1], match[2])


def read_owner(row: bytes | None) -> bytes | None:
    """The worker that has an attempt; None where the row is none."""
    match = _OWNER.fullmatch(row or b"")
    return None if match is None else match[1]


def attempt_of(task: bytes, attempt: bytes) -> bytes:
    """Which attempt of a task it is about."""
    return task + b"#" + attempt


def tried(command: Callable[..., Any], *words: Any) -> Any:
    """As ``redis.pcall``: what is refused has no effect, and no answer."""
    try:
        return command(*words)
    except redis.ResponseError:
        return None


def claim(keyspace: Keyspace, do: Commands, keys: Words, args: Words) -> list[Any]:
    """As ``claim.lua``."""
    open_tasks, owners, head_key, pins, counts, patches, order_key, said, rests = keys
    task, attempt, worker, cached, model, queue, inline_limit, known_order = args
    open_attempt, issued = read_open(keyspace.hash(open_tasks).get(task))
    if open_attempt != attempt:
        return [b"gone"]
    field = attempt_of(task, attempt)
    row = keyspace.hash(owners).get(field)
    if row is not None and (read_owner(row) != worker or tried(do.do_hget, said, field) == b"answered"):
        return [b"taken"]
    head = keyspace.hash(head_key)
    if b"version" not in head or b"order" not in head:
        return [b"gone"]
    rest = tried(do.do_hget, rests, worker) if row is None else None
    if rest == b"spent":
        return [b"spent"]
    if rest is not None and _number(head[b"version"]) < _number(rest):
        return [b"resting"]
    order: bytes | None = b""
    if head[b"order"] != known_order:
        order = keyspace.string(order_key)
        if order is None:
            return [b"gone"]
    now = int(keyspace.now_ms)
    wait = max(0, now - int(issued or 0))
    if row is None:
        do.do_hsetnx(owners, field, b"%b|%d" % (worker, now))
        tried(do.do_hdel, said, field)
        _count_wait(do, counts, queue, wait)
    version, digest, num_bytes = head[b"version"], head[b"digest"], head[b"num_bytes"]
    place, updates, codec = (head.get(field, b"") for field in (b"place", b"updates", b"codec"))
    answer: list[Any] = [b"ok", b"%d" % wait, version, digest, num_bytes, head[b"num_chunks"]]
    answer += [place, updates, codec if b"codec" in head else b"fp32", order, head.get(b"sealed", b"")]
    if digest == cached:
        return answer
    if place == b"" and head[b"num_chunks"] == b"1" and int(num_bytes) <= int(inline_limit):
        return [*answer, keyspace.string(model + b":" + version + b":0")]
    do.do_hset(pins, task, version)
    chain = _chain(keyspace, patches, cached, digest, int(num_bytes))
    return answer if chain is None else [*answer, b"", *chain]


def _number(word: bytes) -> int:
    """As Lua's ``tonumber(word) or 0``, of what coordinators write."""
    return int(word) if word.isdigit() else 0


def _count_wait(do: Commands, counts: bytes, queue: bytes, wait: int) -> None:
    """The queue's counts are everybody's: that somebody has written nonsense there costs no claim."""
    bucket = sum(wait > bound for bound in scripts.WAIT_BOUNDS_MS)
    for field, by in ((b"claimed", 1), (b"waited_ms", wait), (b"wait%d" % bucket, 1)):
        tried(do.do_hincrby, counts, queue + b":" + field, b"%d" % by)
    before = tried(do.do_hget, counts, queue + b":recent")
    recent = b"%d," % wait + (before or b"")
    if len(recent) > scripts.RECENT_WAITS_CHARACTERS:
        recent = recent[: scripts.RECENT_WAITS_CHARACTERS]
        recent = recent[: recent.rindex(b",") + 1]
    tried(do.do_hset, counts, queue + b":recent", recent)


def _chain(keyspace: Keyspace, patches: bytes, held: bytes, wanted: bytes, num_bytes: int) -> list[bytes] | None:
    """The patches that lead from a version to the newest one in fewer bytes than that; None where none do."""
    links, chain, left = keyspace.hash(patches), list[bytes](), num_bytes
    while held not in (b"", wanted) and len(chain) < scripts.MAX_PATCHES:
        match = _LINK.match(links.get(held, b""))
        if match is None:
            break
        left -= int(match[2])
        if left <= 0:
            break
        chain.append(links[held])
        held = match[1]
    return chain if held == wanted else None
