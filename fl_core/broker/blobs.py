"""Bulk bytes in and out of Redis: chunks of 1 MB, pipelined, and no copy in Python.

A large value is allocated and page-faulted anew by the server at each SET, and redis-py copies it three times on the
way. Chunks reuse warm memory; they leave as memoryviews straight to the socket and arrive by ``recv_into`` in one
buffer that was allocated once, so a payload of n bytes costs n bytes of memory on either side.
"""

from __future__ import annotations

from typing import Any

import redis
import xxhash

from fl_core.broker.connection import Client, broker_errors

# A little less than 1 MiB: with the server's own header a whole one would no longer fit jemalloc's class of that size,
# and take a quarter more.
CHUNK_BYTES = 2**20 - 64

# redis-py has no public way to stream a value. Its connections (TLS, password, timeouts) are still the best ones, so
# their sockets are used, by BrokerClient's short way.

Bytes = bytes | bytearray | memoryview


class MissingBlob(Exception):
    """A chunk is gone (its version was dropped, or its writer never finished); ask for a newer one."""


class PayloadLost(Exception):
    """A payload was on a server that has forgotten it: nobody is to blame, and its task is to be done again."""


def digest(payload: Bytes) -> str:
    """xxh3-128 of the bytes, hex: finds accidents, at the speed of memory.

    >>> digest(b"")
    '99aa06d3014798d86001c324468d497f'
    """
    return xxhash.xxh3_128_hexdigest(payload)


def count_chunks(num_bytes: int) -> int:
    """Chunks that ``num_bytes`` take; an empty payload still takes one.

    >>> count_chunks(0), count_chunks(CHUNK_BYTES), count_chunks(CHUNK_BYTES + 1)
    (1, 1, 2)
    """
    return max(1, -(-num_bytes // CHUNK_BYTES))


def chunk_keys(prefix: str, num_bytes: int) -> list[str]:
    """The keys of a blob's chunks, in order."""
    return [f"{prefix}:{index}" for index in range(count_chunks(num_bytes))]


def put(client: Client, prefix: str, payload: Bytes, *, expire_seconds: int | None = None) -> int:
    """Write ``payload`` under ``prefix`` in one pipelined pass and return the number of chunks.

    Raises:
        BrokerUnavailable: the server is away, out of memory or read-only.
    """
    view = memoryview(payload).cast("B")
    tail = b"" if expire_seconds is None else b"$2\r\nEX\r\n" + _bulk(str(expire_seconds).encode())
    words = 3 if expire_seconds is None else 5
    keys = chunk_keys(prefix, len(view))
    with broker_errors("writing a blob"), client.in_hand() as connection:
        sock = connection._sock
        end = b""
        for index, key in enumerate(keys):
            chunk = view[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            head = b"*%d\r\n$3\r\nSET\r\n%b$%d\r\n" % (words, _bulk(key.encode()), len(chunk))
            sock.sendall(end + head)
            sock.sendall(chunk)
            end = b"\r\n" + tail
        sock.sendall(end)
        failure: str | None = None
        for _ in keys:
            if not (line := _line(sock, b"+OK")).startswith(b"+"):
                _must_be_reply(line, b"-")
                failure = failure or line[1:].decode(errors="replace")
        if failure is not None:
            raise redis.ResponseError(failure)
    return len(keys)


def buffer(num_bytes: int) -> memoryview:
    """Memory for a payload, not zeroed, aligned for any dtype."""
    # Here and not above: a worker's parent never reads a blob, and saves 13 MB.
    import numpy as np

    # A bytearray would be zeroed first; float64 keeps every smaller dtype aligned.
    return np.empty(-(-num_bytes // 8), np.float64).data.cast("B")[:num_bytes]


def get(client: Client, prefix: str, num_bytes: int, into: memoryview | None = None) -> memoryview:
    """Read a blob whose size is known and was bounded by the caller.

    Args:
        into: memory of that size to read into; its content is lost in any case.

    Returns:
        ``into``, or a view of one writable buffer of ``num_bytes``, aligned for any dtype.

    Raises:
        MissingBlob: a chunk is not there, or has another size than it must have.
        BrokerUnavailable: the server is away.
    """
    whole = buffer(num_bytes) if into is None else into
    keys = chunk_keys(prefix, num_bytes)
    missing: str | None = None
    with broker_errors("reading a blob"), client.in_hand() as connection:
        sock = connection._sock
        sock.sendall(b"".join(b"*2\r\n$3\r\nGET\r\n" + _bulk(key.encode()) for key in keys))
        for index, key in enumerate(keys):
            chunk = whole[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            line = _line(sock, b"$%d" % len(chunk))
            if line == b"$-1":
                missing = missing or key
            elif line == b"$%d" % len(chunk):
                _fill(sock, chunk)
                if _exactly(sock, 2) != b"\r\n":
                    raise redis.ConnectionError("the server's reply is out of step")
            elif line.startswith(b"-WRONGTYPE"):
                missing = missing or key  # somebody else's, under the chunk's name
            elif line.startswith(b"-"):
                raise redis.ResponseError(line[1:].decode(errors="replace"))
            else:
                _must_be_reply(line, b"$")
                # Another size than announced: the rest of this reply is not worth reading, the connection is closed.
                raise _WrongSize(key)
    if missing is not None:
        raise MissingBlob(missing)
    return whole


class _WrongSize(MissingBlob):
    pass


def unlink_commands(*payloads: tuple[str, int]) -> list[list[str | bytes]]:
    """The Redis commands that drop blobs, each given by prefix and size; few enough words for the script engine."""
    names = [name for prefix, num_bytes in payloads for name in chunk_keys(prefix, num_bytes)]
    return [["UNLINK", *names[start : start + 2000]] for start in range(0, len(names), 2000)]


def delete(client: Client, *payloads: tuple[str, int]) -> None:
    """Drop blobs, each given by prefix and size; the server frees the memory in the background.

    Raises:
        BrokerUnavailable: some may still be there.
    """
    with broker_errors("dropping blobs"):
        for command in unlink_commands(*payloads):
            client.quick(*command)


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def _line(sock: Any, expected: bytes) -> bytes:
    """A reply's first line, read in one go only as far as it is as expected.

    Bytes after it are taken only where a value of another size follows, after which the connection is closed.
    """
    line = bytearray()
    if len(expected) >= 3:  # the shortest line that may come instead, "$-1", is no shorter
        line += _exactly(sock, 5)
        if line[:3] == expected[:3] and len(expected) > 3:
            line += _exactly(sock, len(expected) - 3)
    while b"\r\n" not in line:
        byte = sock.recv(1)
        if not byte or len(line) > 4096:
            raise redis.ConnectionError("connection closed by the server")
        line += byte
    return bytes(line.partition(b"\r\n")[0])


def _must_be_reply(line: bytes, kind: bytes) -> None:
    if not line.startswith(kind) or (kind == b"$" and not line[1:].isdigit()):
        raise redis.InvalidResponse(f"a reply begins with {line[:40]!r}")


def _exactly(sock: Any, count: int) -> bytes:
    data = bytearray(count)
    _fill(sock, memoryview(data))
    return bytes(data)


def _fill(sock: Any, view: memoryview) -> None:
    done = 0
    while done < len(view):
        if not (received := sock.recv_into(view[done:])):
            raise redis.ConnectionError("connection closed by the server")
        done += received
