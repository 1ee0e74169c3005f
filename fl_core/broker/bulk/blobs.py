"""Bulk bytes in and out of Redis: chunks of 1 MB, pipelined, and no copy in Python.

A large value is allocated and page-faulted anew by the server at each SET, and redis-py copies it three times on the
way. Chunks reuse warm memory; they leave as memoryviews straight to the socket and arrive by ``recv_into`` in one
buffer that was allocated once, so a payload of n bytes costs n bytes of memory on either side.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import redis

from fl_core.broker import scripts
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.line.slow_lines import Outflow, Transfer, await_reply, is_readable, send_all
from fl_core.broker.scripts import Script
from fl_core.errors import MissingBlob
from fl_core.wire.digest import Bytes

# A little less than 1 MiB: with the server's own header a whole one would no longer fit jemalloc's class of that size,
# and take a quarter more.
CHUNK_BYTES = 2**20 - 64


# So many chunks does a reader ask for ahead. The server keeps them for it until it takes them.
WINDOW = 2


# On a line that failed: the first part that is sent alone, halved with each attempt, and doubled where it goes well.
FIRST_PART_BYTES = 2**16


MIN_PART_BYTES = 2**11


RENEW_SECONDS = 300.0


def count_chunks(num_bytes: int) -> int:
    """Chunks that ``num_bytes`` take; an empty payload still takes one.

    >>> count_chunks(0), count_chunks(CHUNK_BYTES), count_chunks(CHUNK_BYTES + 1)
    (1, 1, 2)
    """
    return max(1, -(-num_bytes // CHUNK_BYTES))


def chunk_keys(prefix: str, num_bytes: int) -> list[str]:
    """The keys of a blob's chunks, in order."""
    return [f"{prefix}:{index}" for index in range(count_chunks(num_bytes))]


def put(
    client: Client,
    prefix: str,
    payload: Bytes,
    *,
    expire_seconds: int | None = None,
    transfer: Transfer | None = None,
) -> int:
    """Write ``payload`` under ``prefix`` and return the number of chunks.

    At first in one pipelined pass. An attempt that goes on after one that failed sends smaller parts, and each only
    when the one before has arrived: however slow the line is, every attempt then gets further.

    Args:
        expire_seconds: the chunks end by themselves so long after the last one arrived.
        transfer: how far earlier attempts got; None for the first and only one.

    Raises:
        BrokerUnavailable: the server is away, out of memory or read-only.
    """
    view = memoryview(payload).cast("B")
    transfer = transfer or Transfer()
    transfer.attempts += 1
    keys = chunk_keys(prefix, len(view))
    with broker_errors("writing a blob"), client.in_hand() as connection:
        sock = connection._sock
        if transfer.attempts == 1:
            _put_at_once(sock, keys, view, expire_seconds, transfer)
        else:
            _put_in_parts(sock, keys, view, expire_seconds, transfer)
    return len(keys)


def _put_at_once(sock: Any, keys: list[str], view: memoryview, expire: int | None, transfer: Transfer) -> None:
    tail = b"" if expire is None else b"$2\r\nEX\r\n" + _bulk(str(expire).encode())
    words, end, num_stored, num_sent = 3 if expire is None else 5, b"", 0, 0
    outflow = Outflow(sock, lambda queued: transfer.tell(max(transfer.done, num_sent - queued)))

    def note_reply() -> None:
        nonlocal num_stored
        num_stored += 1
        _must_be_ok(_line(sock, b"+OK", outflow))
        transfer.done = min(num_stored * CHUNK_BYTES, len(view))

    start = 0

    def note_sent(sent: int) -> None:
        nonlocal num_sent
        num_sent = start + sent
        transfer.tell(num_sent)

    for index, key in enumerate(keys):
        start = index * CHUNK_BYTES
        chunk = view[start : start + CHUNK_BYTES]
        head = b"*%d\r\n$3\r\nSET\r\n%b$%d\r\n" % (words, _bulk(key.encode()), len(chunk))
        send_all(sock, end + head, outflow)
        send_all(sock, chunk, outflow, note_sent)
        end = b"\r\n" + tail
        while num_stored < index and is_readable(sock, 0):
            note_reply()
    send_all(sock, end, outflow)
    while num_stored < len(keys):
        note_reply()


def _put_in_parts(sock: Any, keys: list[str], view: memoryview, expire: int | None, transfer: Transfer) -> None:
    """Go on where earlier attempts ended, if the server still has what had arrived."""
    outflow = Outflow(sock)

    def ask(*words: bytes | memoryview) -> bytes:
        head = b"*%d\r\n" % len(words)
        for word in words:
            send_all(sock, head + b"$%d\r\n" % len(word), outflow)
            send_all(sock, word, outflow)
            head = b"\r\n"
        send_all(sock, head, outflow)
        return _line(sock, b"", outflow)

    for index, key in enumerate(keys[: transfer.done // CHUNK_BYTES + 1]):
        there = min(transfer.done - index * CHUNK_BYTES, CHUNK_BYTES)
        if there > 0 and _number(ask(b"STRLEN", key.encode())) < there:
            transfer.done = index * CHUNK_BYTES
    part, renewed = max(MIN_PART_BYTES, FIRST_PART_BYTES >> (transfer.attempts - 2)), time.monotonic()
    while transfer.done < len(view) or not len(view):
        index, offset = divmod(transfer.done, CHUNK_BYTES)
        name, size = keys[index].encode(), min(part, CHUNK_BYTES - offset, len(view) - transfer.done)
        piece, began = view[transfer.done : transfer.done + size], time.monotonic()
        if offset == 0:
            _must_be_ok(ask(b"SET", name, piece, *([] if expire is None else [b"EX", str(expire).encode()])))
        elif _number(ask(b"SETRANGE", name, str(offset).encode(), piece)) < offset + size:
            raise redis.ConnectionError("the server did not take a part of a chunk")
        transfer.done += size
        transfer.tell(transfer.done)
        now = time.monotonic()
        if expire is not None and now - renewed > RENEW_SECONDS:
            renewed = now
            for stored in keys[: index + 1]:
                ask(b"EXPIRE", stored.encode(), str(expire).encode())
        part = part * 2 if now - began < 4 else max(MIN_PART_BYTES, part // 2) if now - began > 8 else part
        if not len(view):
            break


def arrived(client: Client, prefix: str, payload: Bytes, expire_seconds: int) -> int:
    """How many bytes from the beginning of ``payload`` the server has under ``prefix``, from an earlier life.

    Raises:
        BrokerUnavailable: unknown.
    """
    script, view = Script(client, scripts.ARRIVED), memoryview(payload).cast("B")
    done = 0
    with broker_errors("looking what has arrived of a blob"):
        for index, key in enumerate(chunk_keys(prefix, len(view))):
            chunk = view[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            there, sha1 = script(keys=[key], args=[expire_seconds])
            # A digest, because the name says which task it is of, and not that it was trained once.
            if not 0 < there <= len(chunk) or hashlib.sha1(chunk[:there]).hexdigest().encode() != sha1:
                break
            done += there
            if there < len(chunk):
                break
    return done


def buffer(num_bytes: int) -> memoryview:
    """Memory for a payload, not zeroed, aligned for any dtype."""
    # Here and not above: a worker's parent never reads a blob, and saves 13 MB.
    import numpy as np

    # A bytearray would be zeroed first; float64 keeps every smaller dtype aligned.
    return np.empty(-(-num_bytes // 8), np.float64).data.cast("B")[:num_bytes]


def get(
    client: Client, prefix: str, num_bytes: int, into: memoryview | None = None, transfer: Transfer | None = None
) -> memoryview:
    """Read a blob whose size is known and was bounded by the caller.

    Two chunks are asked for at a time: what a reader has asked for and does not take lies in the server's memory.

    Args:
        into: memory of that size to read into; its content is lost in any case.
        transfer: how far earlier attempts to read the same bytes into the same memory got.

    Returns:
        ``into``, or a view of one writable buffer of ``num_bytes``, aligned for any dtype.

    Raises:
        MissingBlob: a chunk is not there, or has another size than it must have.
        BrokerUnavailable: the server is away.
    """
    whole = buffer(num_bytes) if into is None else into
    transfer = transfer or Transfer()
    transfer.attempts += 1
    keys = chunk_keys(prefix, num_bytes)
    first, offset = divmod(transfer.done, CHUNK_BYTES)
    if first >= len(keys):
        return whole
    asks = [b"*2\r\n$3\r\nGET\r\n" + _bulk(key.encode()) for key in keys[first:]]
    if offset:
        span = _bulk(str(offset).encode()) + _bulk(b"-1")
        asks[0] = b"*4\r\n$8\r\nGETRANGE\r\n" + _bulk(keys[first].encode()) + span
    missing: str | None = None
    with broker_errors("reading a blob"), client.in_hand() as connection:
        sock = connection._sock
        sock.sendall(b"".join(asks[:WINDOW]))
        asked = min(WINDOW, len(asks))
        for index, key in enumerate(keys[first:]):
            start = (first + index) * CHUNK_BYTES + (0 if index else offset)
            chunk = whole[start : (first + index + 1) * CHUNK_BYTES]
            line = _line(sock, b"$%d" % len(chunk))
            if line == b"$%d" % len(chunk):
                _fill(sock, chunk, transfer if missing is None else None)
                if _exactly(sock, 2) != b"\r\n":
                    raise redis.ConnectionError("the server's reply is out of step")
            elif line == b"$-1" or line.startswith(b"-WRONGTYPE"):
                missing = missing or key  # or somebody else's, under the chunk's name
            elif line.startswith(b"-"):
                raise redis.ResponseError(line[1:].decode(errors="replace"))
            else:
                _must_be_reply(line, b"$")
                # Another size than announced: the rest of this reply is not worth reading, the connection is closed.
                raise _WrongSize(key)
            if missing is None and asked < len(asks):
                sock.sendall(asks[asked])
                asked += 1
            if index + 1 == asked:
                break
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


def _line(sock: Any, expected: bytes, outflow: Outflow | None = None) -> bytes:
    """A reply's first line, read in one go only as far as it is as expected.

    Bytes after it are taken only where a value of another size follows, after which the connection is closed.

    Args:
        outflow: what was sent; while it still leaves, the reply is waited for.
    """
    line = bytearray()
    if len(expected) >= 3:  # the shortest line that may come instead, "$-1", is no shorter
        line += _exactly(sock, 5, outflow)
        if line[:3] == expected[:3] and len(expected) > 3:
            line += _exactly(sock, len(expected) - 3)
    while b"\r\n" not in line:
        if len(line) > 4096:
            raise redis.InvalidResponse(f"a reply begins with {bytes(line[:40])!r}")
        line += _exactly(sock, 1, outflow)
    return bytes(line.partition(b"\r\n")[0])


def _must_be_reply(line: bytes, kind: bytes) -> None:
    if not line.startswith(kind) or (kind == b"$" and not line[1:].isdigit()):
        raise redis.InvalidResponse(f"a reply begins with {line[:40]!r}")


def _exactly(sock: Any, count: int, outflow: Outflow | None = None) -> bytes:
    data = bytearray(count)
    _fill(sock, memoryview(data), outflow=outflow)
    return bytes(data)


def _fill(sock: Any, view: memoryview, transfer: Transfer | None = None, outflow: Outflow | None = None) -> None:
    done = 0
    while done < len(view):
        if outflow is not None:
            await_reply(sock, outflow)
        received = sock.recv_into(view[done:])
        if not received:
            raise redis.ConnectionError("connection closed by the server")
        done += received
        if transfer is not None:
            transfer.done += received
            transfer.tell(transfer.done)


def _must_be_ok(line: bytes) -> None:
    if not line.startswith(b"+"):
        _must_be_reply(line, b"-")
        raise redis.ResponseError(line[1:].decode(errors="replace"))


def _number(line: bytes) -> int:
    if line.startswith(b"-"):
        raise redis.ResponseError(line[1:].decode(errors="replace"))
    if not (line.startswith(b":") and line[1:].isdigit()):
        raise redis.InvalidResponse(f"a reply begins with {line[:40]!r}")
    return int(line[1:])
