"""Blobs against a real server: whole at every size, and a connection that works afterwards whatever went wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_core.broker.bulk import blobs, chunks
from fl_core.broker.bulk.chunks import CHUNK_BYTES
from fl_core.broker.connection import connect
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.errors import BrokerUnavailable, MissingBlob

BORDERS = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7]


def _bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize("size", BORDERS)
def test_every_size_comes_back(client: redis.Redis, size: int) -> None:
    """Around the chunks' borders too, the bytes read are the bytes written, in as many chunks as was said."""
    payload = _bytes(size)
    num_chunks = blobs.put(client, "blob", payload)
    assert num_chunks == chunks.count_chunks(size) == len(chunks.chunk_keys("blob", size)) == client.dbsize()
    read = blobs.get(client, "blob", size)
    assert len(read) == size
    assert hashlib.sha256(read).digest() == hashlib.sha256(payload).digest()
    assert client.ttl("blob:0") == -1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([0, CHUNK_BYTES, 2 * CHUNK_BYTES]), st.integers(-5, 5), st.integers(0, 2**32))
def test_sizes_near_a_border_come_back(client: redis.Redis, border: int, offset: int, seed: int) -> None:
    """Whatever the size, and whatever was written under the same name before."""
    payload = _bytes(max(0, border + offset), seed)
    blobs.put(client, "blob", payload)
    assert bytes(blobs.get(client, "blob", len(payload))) == payload


def test_a_blob_may_be_any_buffer(client: redis.Redis) -> None:
    """An array's memory goes out without a copy and comes back as an array that can be written to."""
    values = np.arange(1000, dtype=np.float32).reshape(10, 100)
    blobs.put(client, "blob", values.data)
    read = np.frombuffer(blobs.get(client, "blob", values.nbytes), np.float32)
    assert read.tobytes() == values.tobytes()
    assert read.flags.aligned
    assert read.flags.writeable
    blobs.put(client, "blob", bytearray(b"abc"))
    assert bytes(blobs.get(client, "blob", 3)) == b"abc"


def test_a_blob_can_end_by_itself(client: redis.Redis) -> None:
    """With an expiry every chunk has it, in the same command that writes the chunk."""
    blobs.put(client, "blob", bytes(2 * CHUNK_BYTES + 1), expire_seconds=100)
    assert all(90 < client.ttl(key) <= 100 for key in chunks.chunk_keys("blob", 2 * CHUNK_BYTES + 1))


def test_dropping_a_blob_drops_every_chunk(client: redis.Redis) -> None:
    """Nothing of it stays, and dropping it again is no error."""
    blobs.put(client, "blob", bytes(2 * CHUNK_BYTES + 1))
    blobs.put(client, "other", b"x")
    blobs.delete(client, ("blob", 2 * CHUNK_BYTES + 1))
    blobs.delete(client, ("blob", 2 * CHUNK_BYTES + 1))
    assert client.keys("*") == [b"other:0"]


@pytest.mark.parametrize("gone", [[0], [1], [2], [0, 1, 2]])
def test_a_missing_chunk_is_told_and_the_connection_goes_on(client: redis.Redis, gone: list[int]) -> None:
    """The first missing chunk is named, the others are read off the connection, and it serves the next command."""
    size = 2 * CHUNK_BYTES + 9
    blobs.put(client, "blob", _bytes(size))
    for index in gone:
        client.delete(f"blob:{index}")
    connection = client.quick("CLIENT", "ID")
    with pytest.raises(MissingBlob, match=f"blob:{gone[0]}"):
        blobs.get(client, "blob", size)
    assert client.quick("CLIENT", "ID") == connection
    assert client.get("blob:0") == client.get("blob:0")
    blobs.put(client, "blob", _bytes(size, 1))
    assert bytes(blobs.get(client, "blob", size)) == _bytes(size, 1)


@pytest.mark.parametrize("size_there", [0, 5, CHUNK_BYTES - 1, CHUNK_BYTES + 1, 5 * CHUNK_BYTES])
@pytest.mark.parametrize("index", [0, 1])
def test_a_chunk_of_another_size_is_refused_unread(client: redis.Redis, size_there: int, index: int) -> None:
    """Never more is read than was announced: the buffer is not grown, and the next command gets its own answer."""
    size = 2 * CHUNK_BYTES
    blobs.put(client, "blob", _bytes(size))
    client.set(f"blob:{index}", bytes(size_there))
    with pytest.raises(MissingBlob, match=f"blob:{index}"):
        blobs.get(client, "blob", size)
    assert client.quick("PING") == b"PONG"
    assert client.quick("ECHO", "hello") == b"hello"


def test_a_chunk_that_is_no_string_is_not_there(client: redis.Redis) -> None:
    """A key of another type in a chunk's place was written by no program of ours; the connection still serves."""
    client.hset("blob:0", "a", "b")
    with pytest.raises(MissingBlob, match="blob:0"):
        blobs.get(client, "blob", 10)
    assert client.quick("ECHO", "hello") == b"hello"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[redis.Redis]:
    """A server of its own with little memory."""
    with (
        EmbeddedServer(tmp_path, persistent=False, maxmemory_bytes=16 * 2**20) as server,
        connect(server.url) as client,
    ):
        yield client


def test_a_server_without_memory_is_told_with_the_remedy(small: redis.Redis) -> None:
    """A chunk refused in the middle: the setting to raise is named, and the next command gets its own answer."""
    with pytest.raises(BrokerUnavailable, match="writing a blob: the broker is out of memory; raise maxmemory"):
        blobs.put(small, "blob", bytes(40 * 2**20))
    assert small.quick("ECHO", "hello") == b"hello"
    blobs.delete(small, ("blob", 40 * 2**20))
    assert small.dbsize() == 0
    payload = _bytes(CHUNK_BYTES + 1)
    blobs.put(small, "blob", payload)
    assert bytes(blobs.get(small, "blob", len(payload))) == payload


def test_a_replica_that_may_not_be_written_is_told(small: redis.Redis) -> None:
    """Pointed at a read-only replica, the sentence says so."""
    small.replicaof("127.0.0.1", "1")
    with pytest.raises(BrokerUnavailable, match="writing a blob: the broker is a read-only replica; point fedtide"):
        blobs.put(small, "blob", b"x")


def test_a_server_that_went_away_is_told_and_found_again(tmp_path: Path) -> None:
    """Writing and reading raise while it is down, and work on the same client once it is back."""
    with EmbeddedServer(tmp_path, persistent=False) as server, connect(server.url) as client:
        blobs.put(client, "blob", b"before")
        server.kill()
        with pytest.raises(BrokerUnavailable, match=r"^writing a blob: the broker does not answer"):
            blobs.put(client, "blob", b"x")
        with pytest.raises(BrokerUnavailable, match=r"^reading a blob: the broker does not answer"):
            blobs.get(client, "blob", 6)
        server.restart()
        with pytest.raises(MissingBlob):
            blobs.get(client, "blob", 6)
        blobs.put(client, "blob", b"after")
        assert bytes(blobs.get(client, "blob", 5)) == b"after"


@pytest.mark.parametrize("size", [0, 1, 10, 104, 1000, 99_999, CHUNK_BYTES - 1, CHUNK_BYTES + 1, 10 * CHUNK_BYTES])
def test_a_chunk_of_any_other_size_is_missing_and_nothing_else(client: redis.Redis, size: int) -> None:
    """A device may write what it likes under a blob's name: the reader neither hangs nor takes the server for dead."""
    client.set("odd:0", b"x" * size)
    with pytest.raises(MissingBlob):
        blobs.get(client, "odd", 2**20)
    client.set("odd:0", b"x" * size)
    with pytest.raises(MissingBlob):
        blobs.get(client, "odd", 7)
    assert client.ping()
