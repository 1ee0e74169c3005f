"""Redis' replies, read straight from the socket: as much as bulk bytes need, and no copy."""

from __future__ import annotations

from typing import Any

import redis

from fl_core.broker.line.slow_lines import Outflow, Transfer, await_reply


def bulk_string(word: bytes) -> bytes:
    """A word of a command.

    >>> bulk_string(b"GET")
    b'$3\\r\\nGET\\r\\n'
    """
    return b"$%d\r\n%b\r\n" % (len(word), word)


def read_line(sock: Any, expected: bytes, outflow: Outflow | None = None) -> bytes:
    """A reply's first line, read in one go only as far as it is as expected.

    Bytes after it are taken only where a value of another size follows, after which the connection is closed.

    Args:
        outflow: what was sent; while it still leaves, the reply is waited for.
    """
    line = bytearray()
    if len(expected) >= 3:  # the shortest line that may come instead, "$-1", is no shorter
        line += read_exactly(sock, 5, outflow)
        if line[:3] == expected[:3] and len(expected) > 3:
            line += read_exactly(sock, len(expected) - 3)
    while b"\r\n" not in line:
        if len(line) > 4096:
            raise redis.InvalidResponse(f"a reply begins with {bytes(line[:40])!r}")
        line += read_exactly(sock, 1, outflow)
    return bytes(line.partition(b"\r\n")[0])


def verify_kind(line: bytes, kind: bytes) -> None:
    """Hold a reply's first line against the kind that it must be of.

    Raises:
        redis.InvalidResponse: it is of another one, or of none that Redis has.
    """
    if not line.startswith(kind) or (kind == b"$" and not line[1:].isdigit()):
        raise redis.InvalidResponse(f"a reply begins with {line[:40]!r}")


def read_exactly(sock: Any, count: int, outflow: Outflow | None = None) -> bytes:
    """So many bytes, however long they take while they move."""
    data = bytearray(count)
    fill(sock, memoryview(data), outflow=outflow)
    return bytes(data)


def fill(sock: Any, view: memoryview, transfer: Transfer | None = None, outflow: Outflow | None = None) -> None:
    """Read into a view until it is full.

    Args:
        transfer: called with how far it is.
        outflow: what was sent; while it still leaves, the bytes are waited for.

    Raises:
        redis.ConnectionError: the server closed the connection.
    """
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


def verify_ok(line: bytes) -> None:
    """The reply to a command that gives nothing.

    Raises:
        redis.ResponseError: the server refused the command.
    """
    if not line.startswith(b"+"):
        verify_kind(line, b"-")
        raise redis.ResponseError(line[1:].decode(errors="replace"))


def read_number(line: bytes) -> int:
    """The reply to a command that gives a count.

    Raises:
        redis.ResponseError: the server refused the command.
    """
    if line.startswith(b"-"):
        raise redis.ResponseError(line[1:].decode(errors="replace"))
    if not (line.startswith(b":") and line[1:].isdigit()):
        raise redis.InvalidResponse(f"a reply begins with {line[:40]!r}")
    return int(line[1:])
