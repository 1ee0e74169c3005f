"""The twin of a server: its clock, its waits, its transactions, and the bulk bytes that take their own way.

That commands and scripts mean what they mean at a server is shown where both are asked: tests/integration/
test_broker_scripts.py, test_lease.py and test_roster.py.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import redis

from fl_core.broker import scripts
from fl_core.broker.bulk import blobs, chunks
from fl_core.broker.bulk.chunks import CHUNK_BYTES
from fl_core.broker.memory.client import MemoryClient, MemoryServer
from fl_core.broker.memory.keyspace import START_MS
from fl_core.broker.scripts import Script
from fl_core.errors import MissingBlob


@pytest.fixture
def twin() -> MemoryClient:
    return MemoryClient(MemoryServer())


def test_every_script_has_its_twin(twin: MemoryClient) -> None:
    """A script of which there is a Lua file and no Python is told when it is called, and here."""
    files = {path.stem for path in Path(scripts.__file__).with_name("lua").glob("*.lua")} - {"common"}
    assert {file for file, _ in scripts._FUNCTIONS.values()} == files
    assert len(twin.server._scripts._by_name) == len(scripts._FUNCTIONS)
    for name in scripts._FUNCTIONS:
        with contextlib.suppress(ValueError, IndexError):  # it is known, and may miss its keys
            Script(twin, name)([], [])
    with pytest.raises(redis.ResponseError, match="Function not found"):
        twin.execute_command("FCALL", "none", 0)


def test_the_clock_stands_still_until_it_is_moved(twin: MemoryClient) -> None:
    """Keys end by it, and entries are stamped by it."""
    assert twin.time() == (int(START_MS // 1000), 0)
    twin.set("a", b"1", px=1500)
    assert (twin.pttl("a"), twin.get("a")) == (1500, b"1")
    twin.server.keyspace.now_ms += 1499.5
    assert twin.get("a") == b"1"
    assert twin.xadd("log", {"x": "1"}) == b"%d-0" % (START_MS + 1499)
    assert twin.xadd("log", {"x": "2"}) == b"%d-1" % (START_MS + 1499)
    twin.server.keyspace.now_ms += 1
    assert (twin.get("a"), twin.exists("a"), twin.keys("*")) == (None, 0, [b"log"])


def test_a_reader_waits_by_that_clock(twin: MemoryClient) -> None:
    """Whoever moves it may write meanwhile, which ends the wait; else it lasts as long as was asked for."""
    keyspace = twin.server.keyspace

    def wait(until_ms: float) -> None:
        keyspace.now_ms = min(until_ms, keyspace.now_ms + 40)
        if keyspace.now_ms >= START_MS + 80:
            twin.xadd("log", {"x": "1"})

    assert twin.quick("XREAD", "BLOCK", 50, "STREAMS", "log", "0-0") is None
    assert keyspace.now_ms == START_MS + 50
    twin.server.commands.streams.on_wait = wait
    (found,) = twin.quick("XREAD", "BLOCK", 1000, "STREAMS", "log", "0-0")
    assert found == [b"log", [[b"%d-0" % (START_MS + 90), [b"x", b"1"]]]]
    assert keyspace.now_ms == START_MS + 90


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
def test_bulk_bytes_come_back(twin: MemoryClient, size: int) -> None:
    """By the code that speaks to a server's socket; what is missing or of another size is told."""
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert blobs.put(twin, "blob", payload, expire_seconds=60) == chunks.count_chunks(size)
    assert bytes(blobs.get(twin, "blob", size)) == payload
    assert twin.ttl("blob:0") == 60
    with pytest.raises(MissingBlob):
        blobs.get(twin, "blob", size + 1)
    twin.delete("blob:0")
    with pytest.raises(MissingBlob):
        blobs.get(twin, "blob", size)


def test_a_pipeline_tells_what_was_refused_and_does_the_rest(twin: MemoryClient) -> None:
    """As at a server; a value of another type is refused by every command that meets it."""
    twin.set("text", b"x")
    with twin.pipeline() as pipeline:
        pipeline.lpush("list", "a", "b").hset("text", "f", "1").llen("list")
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    assert (replies[0], replies[2]) == (2, 2)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        raise replies[1]
    for ask in (twin.hgetall, twin.llen, twin.smembers, twin.xlen):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            ask("text")
    with pytest.raises(redis.ResponseError, match="unknown command 'NOSUCH'"):
        twin.execute_command("NOSUCH")


def test_what_is_emptied_is_gone(twin: MemoryClient) -> None:
    """Hashes, lists and sorted sets end with their last item; a stream does not."""
    twin.hset("h", "f", "1")
    twin.hdel("h", "f")
    twin.lpush("l", "a")
    twin.lrem("l", 0, "a")
    twin.zadd("z", {"a": 1})
    twin.zrem("z", "a")
    twin.xadd("s", {"f": "1"}, id="5-0")
    twin.xtrim("s", minid="6-0", approximate=False)
    assert twin.keys("*") == [b"s"]
    with pytest.raises(redis.ResponseError, match="equal or smaller"):
        twin.xadd("s", {"f": "1"}, id="5-0")


def test_keys_are_found_by_pattern(twin: MemoryClient) -> None:
    """With characters that mean themselves when they are escaped."""
    for key in ("fedtide:c:{a}:log", "fedtide:c:{a[1]}:log", "other"):
        twin.set(key, b"1")
    assert sorted(twin.scan_iter(match="fedtide:c:{*}:*")) == [b"fedtide:c:{a[1]}:log", b"fedtide:c:{a}:log"]
    assert list(twin.scan_iter(match=r"fedtide:c:{a\[1\]}:*")) == [b"fedtide:c:{a[1]}:log"]
