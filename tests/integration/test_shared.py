"""One connection for several threads, on which a consumer waits between their commands."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from fl_core.broker.connection import connect
from fl_core.broker.doorbell.shared import SharedClient
from fl_core.broker.server.embedded import EmbeddedServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of this module's."""
    folder: Path = tmp_path_factory.mktemp("server")
    with EmbeddedServer(folder, persistent=False) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[Any]:
    """As a worker's parent has it."""
    made = connect(server.url, kind=SharedClient)
    yield made
    made.close()


def wait_once(client: SharedClient, queue: str, seconds: float, ended: list[Any]) -> Any:
    """What the consumer does: it waits on the queue."""
    connection = client.begin_wait(ended.append)
    assert connection is not None
    connection.send_command("BRPOP", queue, client.longest_wait(seconds))
    try:
        return connection.read_response()
    finally:
        client.end_wait()


def test_everybody_has_its_turn_on_one_connection_and_its_own_replies(
    client: SharedClient, server: EmbeddedServer
) -> None:
    """Commands by either way, from several threads, while a consumer waits in between."""
    other = connect(server.url)
    before = other.info("clients")["connected_clients"]
    numbers: set[Any] = set()
    wrong: list[Any] = []

    def use(name: str) -> None:
        for index in range(20):
            numbers.add(client.quick("CLIENT", "ID"))
            text = f"{name} {index}".encode()
            client.later("SET", name, text)
            with client.pipeline() as pipeline:
                wrong.extend(got for got in pipeline.get(name).echo(text).execute() if got != text)

    threads = [threading.Thread(target=use, args=(f"thread {index}",)) for index in range(3)]
    for thread in threads:
        thread.start()
    ended: list[Any] = []
    client.wanted_in = lambda: 0.0
    while any(thread.is_alive() for thread in threads):
        assert wait_once(client, "none", 20, ended) is None
    other.rpush("some", "doorbell")
    assert wait_once(client, "some", 20, ended) == [b"some", b"doorbell"]
    assert len(numbers) == 1
    assert not wrong
    assert not ended
    assert other.info("clients")["connected_clients"] == before + 1


def test_whoever_wants_the_connection_comes_before_the_next_wait(client: SharedClient, server: EmbeddedServer) -> None:
    """A consumer that waits over and over leaves no thread without its turn."""
    other, waits, done = connect(server.url), [0], threading.Event()

    def consume() -> None:
        while not done.is_set():
            other.rpush("busy", "doorbell")
            wait_once(client, "busy", 20, [])
            waits[0] += 1

    consumer = threading.Thread(target=consume)
    consumer.start()
    turns = []
    for _ in range(20):
        before = waits[0]
        client.quick("PING")
        turns.append(waits[0] - before)
    done.set()
    consumer.join(10)
    assert max(turns) <= 3, turns  # the one that goes on, and what ended before this thread asked


def test_a_consumer_is_told_when_its_connection_is_closed_and_the_next_user_connects_anew(
    client: SharedClient, server: EmbeddedServer
) -> None:
    """Nothing holds the connection afterwards."""
    other, ended = connect(server.url), []
    number = client.quick("CLIENT", "ID")
    closer = threading.Timer(0.1, lambda: other.client_kill_filter(_id=number))
    closer.start()

    def on_end(connection: Any) -> None:
        ended.append(connection)
        client.end_wait()

    connection = client.begin_wait(on_end)
    connection.send_command("BRPOP", "none", 20)
    with pytest.raises(redis.ConnectionError):
        connection.read_response()
    assert ended == [connection]
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(client.quick("CLIENT", "ID")))
    thread.start()
    thread.join(5)
    assert found
    assert found != [number]


def test_a_consumer_that_failed_while_it_waited_holds_up_nobody(client: SharedClient) -> None:
    """Its own thread has the last word at the server: the wait is given up with its connection."""
    connection = client.begin_wait(lambda connection: client.end_wait())
    connection.send_command("BRPOP", "none", 20)
    started = time.monotonic()
    assert client.quick("ECHO", "leaving") == b"leaving"
    assert time.monotonic() - started < 5
