"""Payloads over slow and broken lines: what moves is waited for, what has arrived is not sent again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import kombu.transport
import pytest
import redis

from coordinator.outgoing import dispatcher
from fl_core.broker import keys
from fl_core.broker.bulk import blobs, chunks
from fl_core.broker.connection import connect
from fl_core.broker.doorbell import intake
from fl_core.broker.doorbell.app import make_app
from fl_core.broker.line import short_way
from fl_core.broker.line.slow_lines import Transfer
from fl_core.broker.overview.roster import Roster
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.broker.tasks import TaskBroker
from fl_core.errors import BrokerUnavailable, TrainingStopped
from fl_core.wire.messages import ModelUpdate
from tests.integration.lab import until
from tests.integration.slow_line import SlowLine
from tests.integration.stage import WORKER, Stage, answer, beat, call_of

Line = Callable[..., SlowLine]
SIZE = 2 * chunks.CHUNK_BYTES + 1000
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
    broken.cut_after = chunks.CHUNK_BYTES + 300_000
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
    assert broken.up < SIZE + chunks.CHUNK_BYTES + attempts * 140_000
    assert all(0 < client.ttl(key) <= 60 for key in chunks.chunk_keys("blob", SIZE))


def test_what_the_server_has_forgotten_is_sent_again(client: redis.Redis, line: Line) -> None:
    """A server that lost the first chunks, or a part of one, between two attempts gets them again."""
    broken = line()
    device = connect(broken.url, timeout_seconds=2.0)
    for forget in (lambda: client.flushall(), lambda: client.setrange("blob:1", 0, "x") and client.delete("blob:1")):
        transfer = Transfer()
        broken.cut_after = broken.up + chunks.CHUNK_BYTES + 300_000
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
    broken.cut_after = chunks.CHUNK_BYTES + 300_000
    with pytest.raises(BrokerUnavailable):
        blobs.get(device, "blob", SIZE, memory, transfer)
    arrived = transfer.done
    assert arrived > chunks.CHUNK_BYTES
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


UPDATE = ModelUpdate(
    campaign="digits-1", task_id="1-abc", attempt=1, worker="pi", base_version=0, num_examples=1, sends="delta",
    codec="fp32", layout_digest="a" * 32, payload_bytes=SIZE, payload_digest="b" * 32, blob="1-abc.1.pi", num_chunks=3,
    bytes_down=0, metrics={}, seconds={},
)  # fmt: skip


def test_what_an_earlier_life_has_sent_is_not_sent_again(client: redis.Redis, line: Line) -> None:
    """A worker that was killed on the way goes on in its next life, unless it is another training's bytes."""
    client.set(keys.CampaignKeys("digits-1").incarnation, "now")
    broken = line()
    broken.cut_after = chunks.CHUNK_BYTES + 300_000
    with pytest.raises(BrokerUnavailable):
        TaskBroker(connect(broken.url, timeout_seconds=2.0), "pi").deliver(UPDATE, PAYLOAD)
    prefix = keys.CampaignKeys("digits-1").blob(UPDATE.blob)
    before = broken.up
    assert TaskBroker(connect(broken.url), "pi").deliver(UPDATE, PAYLOAD, begun_before=True)
    assert broken.up - before < SIZE - chunks.CHUNK_BYTES + 10_000
    assert bytes(blobs.get(client, prefix, SIZE)) == PAYLOAD
    other = PAYLOAD[::-1]
    assert TaskBroker(connect(broken.url), "pi").deliver(UPDATE, other, begun_before=True)
    assert bytes(blobs.get(client, prefix, SIZE)) == other


def test_what_nobody_waits_for_any_more_is_not_sent_to_its_end(client: redis.Redis, line: Line) -> None:
    """The transfer ends where bytes move, in the middle of a chunk; what had arrived is dropped, and work goes on."""
    slow = line(300_000)
    moved: list[float] = []

    def look() -> None:
        moved.append(time.monotonic())
        if slow.up > chunks.CHUNK_BYTES + 200_000:
            raise TrainingStopped

    device = TaskBroker(connect(slow.url), "pi", on_moved=look)
    with pytest.raises(TrainingStopped):
        device.deliver(UPDATE, PAYLOAD)
    assert slow.up < SIZE - 100_000
    assert len(moved) > 3
    until(lambda: client.keys("*blob*"))
    device.withdraw(UPDATE)
    until(lambda: not client.keys("*blob*"), 5)
    assert not device.say_moving("digits-1", "1-abc", 1)


def test_time_on_the_line_is_no_time_of_the_task(
    broker_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device whose bytes move for three times as long as a task may take keeps its task, and its update counts."""
    monkeypatch.setattr(dispatcher, "DEVICE_GRACE_SECONDS", 0.0)
    stage = Stage(broker_server.url, tmp_path, dispatch={"concurrency": 1, "task_timeout_seconds": 1.0})
    client = connect(broker_server.url)
    device, roster = TaskBroker(client, WORKER), Roster(client)
    roster.beat(beat())
    call = call_of(until(lambda: stage.client.rpop(keys.train_queue("default"))))
    task = device.claim(call, "").task
    assert task is not None
    arrives = time.monotonic() + 3.0

    def has_come() -> bool:
        roster.beat(beat(task))
        assert device.say_moving(task.campaign, task.task_id, task.attempt)
        return time.monotonic() > arrives

    until(has_come)
    assert answer(device, call)
    summary = stage.stop()
    assert (summary["merged"], summary["reissued"]) == (1, 0)


def test_a_connection_that_was_forgotten_on_the_way_costs_a_moment(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NAT swallows what comes over a connection that was silent: a sign of life shows it, and nothing is lost."""
    monkeypatch.setattr(short_way, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(short_way, "PROBE_SECONDS", 0.2)
    nat = line()
    device = connect(nat.url)
    number = device.quick("CLIENT", "ID")
    assert device.quick("CLIENT", "ID") == number, "one that answers is kept"
    nat.forget()
    started = time.monotonic()
    blobs.put(device, "blob", PAYLOAD)
    nat.forget()
    assert device.get("blob:0") == PAYLOAD[: chunks.CHUNK_BYTES]
    assert time.monotonic() - started < 5
    assert 0 < nat.swallowed < 100, "nothing but signs of life"


def test_doorbells_are_waited_for_on_a_line_that_forgets(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is overdue: the connection is made anew, and later waits are shorter."""
    monkeypatch.setattr(short_way, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(intake, "FIRST_WAIT_SECONDS", 1)
    monkeypatch.setattr(intake.Channel, "longest_wait", 8)
    monkeypatch.setattr(kombu.transport, "_transport_cache", {})  # other tests of this process may have filled it
    intake.use_intake()
    nat = line()
    app = make_app(nat.url)
    with app.connection_for_read() as reader:
        channel = reader.default_channel
        channel.basic_consume("fedtide.train.default", no_ack=True, callback=lambda message: None, consumer_tag="me")
        channel._next_wait = 1
        cycle = reader.transport.cycle
        cycle.on_poll_start()
        nat.forget()
        until(lambda: cycle.maybe_check_brpop_health() or not channel._in_poll, 30)
        assert channel.longest_wait == channel.brpop_timeout == 1
        cycle.on_poll_start()
        with pytest.raises(Empty):
            until(lambda: channel._brpop_read(), 10)


def test_readers_that_do_not_read_cost_a_window_each(
    client: redis.Redis, broker_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty devices have asked for a large version and take none of it: the server keeps two chunks for each."""
    size = 12 * chunks.CHUNK_BYTES
    blobs.put(client, "version", bytes(size))
    before, stalled, go_on = client.info("memory")["used_memory"], threading.Semaphore(0), threading.Event()
    read = blobs.fill

    def stall(sock: Any, view: memoryview, *rest: Any, **more: Any) -> None:
        if len(view) > 1000 and not go_on.is_set():
            stalled.release()
            go_on.wait(60)
        read(sock, view, *rest, **more)

    monkeypatch.setattr(blobs, "fill", stall)
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
