"""Payloads over slow and broken lines: what moves is waited for, what has arrived is not sent again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from fl_core.broker.bulk import blobs
from fl_core.broker.connection import connect
from fl_core.broker.patience import Transfer
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.errors import BrokerUnavailable
from tests.integration.slow_line import SlowLine

Line = Callable[..., SlowLine]
SIZE = 2 * blobs.CHUNK_BYTES + 1000
PAYLOAD = bytes(range(256)) * (SIZE // 256) + bytes(SIZE % 256)


@pytest.fixture
def line(broker_server: EmbeddedServer) -> Iterator[Line]:
    """Makes lines to the server."""
    lines: list[SlowLine] = []

    def line(bytes_per_second: float | None = None) -> SlowLine:
        lines.append(SlowLine(broker_server.port, bytes_per_second))
        return lines[-1]

    yield line
    for one in lines:
        one.close()


def test_a_slow_line_is_no_outage(client: redis.Redis, line: Line) -> None:
    """A chunk takes longer than the timeout, in both directions: it arrives, once."""
    slow = line(800_000)
    device = connect(slow.url, timeout_seconds=0.5)
    told: list[int] = []
    transfer = Transfer(told.append)
    transfer._next = 0.0
    blobs.put(device, "blob", PAYLOAD, expire_seconds=60, transfer=transfer)
    assert bytes(blobs.get(client, "blob", SIZE)) == PAYLOAD
    assert transfer.done == SIZE
    assert told, "it says so while it goes on"
    assert slow.up < 1.02 * SIZE
    assert bytes(blobs.get(device, "blob", SIZE)) == PAYLOAD
    assert slow.down < 1.02 * SIZE


def test_what_has_arrived_is_not_sent_again(client: redis.Redis, line: Line) -> None:
    """Cut again and again: each attempt goes on where the last one ended, whichever answer got lost."""
    broken = line()
    device = connect(broken.url, timeout_seconds=2.0)
    transfer, attempts = Transfer(), 0
    broken.cut_after = blobs.CHUNK_BYTES + 300_000
    while True:
        attempts += 1
        try:
            blobs.put(device, "blob", PAYLOAD, expire_seconds=60, transfer=transfer)
        except BrokerUnavailable:
            broken.cut_after = broken.up + 250_000
            continue
        break
    assert attempts > 3
    assert bytes(blobs.get(client, "blob", SIZE)) == PAYLOAD
    assert broken.up < SIZE + blobs.CHUNK_BYTES + attempts * 140_000
    assert all(0 < client.ttl(key) <= 60 for key in blobs.chunk_keys("blob", SIZE))


def test_what_the_server_has_forgotten_is_sent_again(client: redis.Redis, line: Line) -> None:
    """A server that lost the first chunks, or a part of one, between two attempts gets them again."""
    broken = line()
    device = connect(broken.url, timeout_seconds=2.0)
    for forget in (lambda: client.flushall(), lambda: client.setrange("blob:1", 0, "x") and client.delete("blob:1")):
        transfer = Transfer()
        broken.cut_after = broken.up + blobs.CHUNK_BYTES + 300_000
        with pytest.raises(BrokerUnavailable):
            blobs.put(device, "blob", PAYLOAD, transfer=transfer)
        forget()
        blobs.put(device, "blob", PAYLOAD, transfer=transfer)
        assert bytes(blobs.get(client, "blob", SIZE)) == PAYLOAD


def test_what_has_come_is_not_fetched_again(client: redis.Redis, line: Line) -> None:
    """Also in the middle of a chunk, into the same memory."""
    blobs.put(client, "blob", PAYLOAD)
    broken = line()
    device = connect(broken.url, timeout_seconds=2.0)
    transfer, memory = Transfer(), blobs.buffer(SIZE)
    broken.cut_after = blobs.CHUNK_BYTES + 300_000
    with pytest.raises(BrokerUnavailable):
        blobs.get(device, "blob", SIZE, memory, transfer)
    arrived = transfer.done
    assert arrived > blobs.CHUNK_BYTES
    before = broken.down
    assert bytes(blobs.get(device, "blob", SIZE, memory, transfer)) == PAYLOAD
    assert broken.down - before < SIZE - arrived + 1000


def test_silence_is_an_outage(line: Line) -> None:
    """A line on which nothing moves ends the attempt after a few timeouts, not never."""
    dead = line()
    device = connect(dead.url, timeout_seconds=0.3)
    device.ping()
    dead.frozen.set()
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        blobs.put(device, "blob", b"x" * 30_000_000, transfer=Transfer())
    with pytest.raises(BrokerUnavailable):
        blobs.get(device, "blob", SIZE)
    assert time.monotonic() - started < 30


def test_readers_that_do_not_read_cost_a_window_each(
    client: redis.Redis, broker_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty devices have asked for a large version and take none of it: the server keeps two chunks for each."""
    size = 12 * blobs.CHUNK_BYTES
    blobs.put(client, "version", bytes(size))
    before, stalled, go_on = client.info("memory")["used_memory"], threading.Semaphore(0), threading.Event()
    read = blobs._fill

    def stall(sock: Any, view: memoryview, *rest: Any, **more: Any) -> None:
        if len(view) > 1000 and not go_on.is_set():
            stalled.release()
            go_on.wait(60)
        read(sock, view, *rest, **more)

    monkeypatch.setattr(blobs, "_fill", stall)
    results: list[bool] = []

    def fetch() -> None:
        with connect(broker_server.url) as device:
            results.append(len(blobs.get(device, "version", size)) == size)

    readers = [threading.Thread(target=fetch) for _ in range(60)]
    for reader in readers:
        reader.start()
    for _ in readers:
        assert stalled.acquire(timeout=60)
    time.sleep(0.2)
    grown = client.info("memory")["used_memory"] - before
    go_on.set()
    for reader in readers:
        reader.join(60)
    assert grown < 130_000_000
    assert results == [True] * 60
