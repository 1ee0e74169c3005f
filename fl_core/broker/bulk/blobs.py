"""Bulk bytes in and out of Redis: chunks of 1 MB, pipelined, and no copy in Python.

A large value is allocated and page-faulted again by the server at each SET, and redis-py copies it three times on the
way. Chunks reuse warm memory; they leave as memoryviews straight to the socket and arrive by ``recv_into`` in one
buffer that was allocated once, so a payload of n bytes costs n bytes of memory on either side.
"""

from __future__ import annotations

import hashlib

import redis

from fl_core.broker import scripts
from fl_core.broker.bulk.chunks import CHUNK_BYTES, chunk_keys
from fl_core.broker.bulk.protocol import bulk_string, fill, read_exactly, read_line, verify_kind
from fl_core.broker.bulk.sending import send_at_once, send_in_parts
from fl_core.broker.connection import Client, broker_errors
from fl_core.broker.line.slow_lines import Transfer
from fl_core.broker.scripts import Script
from fl_core.errors import MissingBlob
from fl_core.wire.digest import Bytes

# So many chunks does a reader ask for ahead. The server keeps them for it until it takes them.
WINDOW = 2


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
            send_at_once(sock, keys, view, expire_seconds, transfer)
        else:
            send_in_parts(sock, keys, view, expire_seconds, transfer)
    return len(keys)


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
    asks = [b"*2\r\n$3\r\nGET\r\n" + bulk_string(key.encode()) for key in keys[first:]]
    if offset:
        span = bulk_string(str(offset).encode()) + bulk_string(b"-1")
        asks[0] = b"*4\r\n$8\r\nGETRANGE\r\n" + bulk_string(keys[first].encode()) + span
    missing: str | None = None
    with broker_errors("reading a blob"), client.in_hand() as connection:
        sock = connection._sock
        sock.sendall(b"".join(asks[:WINDOW]))
        asked = min(WINDOW, len(asks))
        for index, key in enumerate(keys[first:]):
            start = (first + index) * CHUNK_BYTES + (0 if index else offset)
            chunk = whole[start : (first + index + 1) * CHUNK_BYTES]
            line = read_line(sock, b"$%d" % len(chunk))
            if line == b"$%d" % len(chunk):
                fill(sock, chunk, transfer if missing is None else None)
                if read_exactly(sock, 2) != b"\r\n":
                    raise redis.ConnectionError("the server's reply is out of step")
            elif line == b"$-1" or line.startswith(b"-WRONGTYPE"):
                missing = missing or key  # or somebody else's, under the chunk's name
            elif line.startswith(b"-"):
                raise redis.ResponseError(line[1:].decode(errors="replace"))
            else:
                verify_kind(line, b"$")
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
