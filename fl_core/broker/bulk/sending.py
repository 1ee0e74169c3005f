"""The two ways in which a blob's chunks are sent: all at once, and on a line that failed part by part."""

from __future__ import annotations

import time
from typing import Any

import redis

from fl_core.broker.bulk.chunks import CHUNK_BYTES
from fl_core.broker.bulk.protocol import bulk_string, read_line, read_number, verify_ok
from fl_core.broker.line.slow_lines import Outflow, Transfer, is_readable, send_all

# On a line that failed: the first part that is sent alone, halved with each attempt, and doubled where it goes well.
FIRST_PART_BYTES = 2**16
MIN_PART_BYTES = 2**11
RENEW_SECONDS = 300.0


def send_at_once(sock: Any, keys: list[str], view: memoryview, expire: int | None, transfer: Transfer) -> None:
    """All chunks in one pipelined pass."""
    tail = b"" if expire is None else b"$2\r\nEX\r\n" + bulk_string(str(expire).encode())
    words, end, num_stored, num_sent = 3 if expire is None else 5, b"", 0, 0
    outflow = Outflow(sock, lambda queued: transfer.tell(max(transfer.done, num_sent - queued)))

    def note_reply() -> None:
        nonlocal num_stored
        num_stored += 1
        verify_ok(read_line(sock, b"+OK", outflow))
        transfer.done = min(num_stored * CHUNK_BYTES, len(view))

    start = 0

    def note_sent(sent: int) -> None:
        nonlocal num_sent
        num_sent = start + sent
        transfer.tell(num_sent)

    for index, key in enumerate(keys):
        start = index * CHUNK_BYTES
        chunk = view[start : start + CHUNK_BYTES]
        head = b"*%d\r\n$3\r\nSET\r\n%b$%d\r\n" % (words, bulk_string(key.encode()), len(chunk))
        send_all(sock, end + head, outflow)
        send_all(sock, chunk, outflow, note_sent)
        end = b"\r\n" + tail
        while num_stored < index and is_readable(sock, 0):
            note_reply()
    send_all(sock, end, outflow)
    while num_stored < len(keys):
        note_reply()


def send_in_parts(sock: Any, keys: list[str], view: memoryview, expire: int | None, transfer: Transfer) -> None:
    """Go on where earlier attempts ended, if the server still has what had arrived."""
    outflow = Outflow(sock)

    def ask(*words: bytes | memoryview) -> bytes:
        head = b"*%d\r\n" % len(words)
        for word in words:
            send_all(sock, head + b"$%d\r\n" % len(word), outflow)
            send_all(sock, word, outflow)
            head = b"\r\n"
        send_all(sock, head, outflow)
        return read_line(sock, b"", outflow)

    for index, key in enumerate(keys[: transfer.done // CHUNK_BYTES + 1]):
        there = min(transfer.done - index * CHUNK_BYTES, CHUNK_BYTES)
        if there > 0 and read_number(ask(b"STRLEN", key.encode())) < there:
            transfer.done = index * CHUNK_BYTES
    part, renewed = max(MIN_PART_BYTES, FIRST_PART_BYTES >> (transfer.attempts - 2)), time.monotonic()
    while transfer.done < len(view) or not len(view):
        index, offset = divmod(transfer.done, CHUNK_BYTES)
        name, size = keys[index].encode(), min(part, CHUNK_BYTES - offset, len(view) - transfer.done)
        piece, began = view[transfer.done : transfer.done + size], time.monotonic()
        if offset == 0:
            verify_ok(ask(b"SET", name, piece, *([] if expire is None else [b"EX", str(expire).encode()])))
        elif read_number(ask(b"SETRANGE", name, str(offset).encode(), piece)) < offset + size:
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
