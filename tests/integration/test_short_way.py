"""The short way to the server: one connection for each thread, never out of step with its replies."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from fl_core.broker import scripts
from fl_core.broker.bulk import blobs
from fl_core.broker.connection import connect
from fl_core.broker.line import short_way
from fl_core.broker.line.short_way import BrokerClient
from fl_core.broker.scripts import Script
from fl_core.broker.server.embedded import EmbeddedServer
from fl_core.errors import BrokerUnavailable


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """One that a test may restart."""
    with EmbeddedServer(tmp_path, persistent=False) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> BrokerClient:
    """The programs' own client."""
    made: BrokerClient = connect(server.url)
    return made


def test_a_command_gives_its_reply_and_stays_on_one_connection(client: BrokerClient) -> None:
    """Replies come as bytes and numbers, over and over on the same connection."""
    ids = {client.quick("CLIENT", "ID") for _ in range(5)}
    assert len(ids) == 1
    assert client.quick("SET", "a", memoryview(b"12")) == b"OK"
    assert client.quick("INCRBY", "a", 3) == 15


def test_a_refusal_is_raised_and_the_next_reply_is_the_next_commands(client: BrokerClient) -> None:
    """An error reply is a whole reply: the connection goes on."""
    number = client.quick("CLIENT", "ID")
    client.hset("h", "a", "b")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.quick("GET", "h")
    assert client.quick("ECHO", "next") == b"next"
    assert client.quick("CLIENT", "ID") == number


def test_replies_that_nobody_waits_for_are_out_of_the_way(client: BrokerClient) -> None:
    """Also where one of them is an error, and where the next user reads the socket itself."""
    client.hset("h", "a", "b")
    client.later("SET", "x", "1")
    client.later("GET", "h")
    assert client.quick("GET", "x") == b"1"
    client.later("HDEL", "h", "a")
    blobs.put(client, "blob", b"payload")
    assert bytes(blobs.get(client, "blob", 7)) == b"payload"
    assert client.exists("h") == 0


def test_a_restart_is_told_once_in_the_middle_of_work(server: EmbeddedServer, client: BrokerClient) -> None:
    """What was sent to the old server may have been done or not, so the caller decides; the next try is a new one."""
    client.later("PING")
    server.restart()
    with pytest.raises((redis.ConnectionError, OSError)):
        client.quick("ECHO", "back")
    assert client.quick("ECHO", "back") == b"back"


def test_a_restart_while_nothing_was_done_is_not_told(
    server: EmbeddedServer, client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that lay idle is looked at first, also with replies on it that nobody has read."""
    client.later("PING")
    server.restart()
    monkeypatch.setattr(short_way, "FRESH_SECONDS", -1.0)
    assert client.quick("ECHO", "back") == b"back"


def test_each_thread_has_a_connection_of_its_own(client: BrokerClient) -> None:
    """Threads share a client and never a reply."""
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.append(client.quick("CLIENT", "ID"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({client.quick("CLIENT", "ID"), *numbers}) == 4


def test_a_fork_leaves_its_parents_connection_alone(client: BrokerClient) -> None:
    """The child of a process that has used the client gets a connection of its own."""
    number = client.quick("CLIENT", "ID")
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(client.quick("CLIENT", "ID")))
    child.start()
    assert answers.get() != number
    child.join()
    assert client.quick("CLIENT", "ID") == number


def test_a_closed_client_leaves_no_connection(server: EmbeddedServer, client: BrokerClient) -> None:
    """A thread has one, whichever way it goes; used again, it connects again."""
    other = connect(server.url)
    client.quick("PING")
    client.ping()
    before = other.info("clients")["connected_clients"]
    client.close()
    assert other.info("clients")["connected_clients"] == before - 1
    assert client.quick("ECHO", "again") == b"again"


def test_functions_are_loaded_by_coordinators_and_waited_for_by_devices(
    server: EmbeddedServer, client: BrokerClient
) -> None:
    """At first, and again after the server has lost them; others are told in one sentence what they wait for.

    Where all share the server's own user, anybody may load them.
    """
    client.function_flush("SYNC")
    with connect(server.url) as anybody:
        assert Script(anybody, scripts.ARRIVED)(["chunk"], [60]) == [0, b""]
    client.acl_setuser("phone", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
    with connect(server.url.replace("redis://", "redis://phone:x@")) as device:
        stream_end = Script(client, scripts.STREAM_END)
        scripts.load(client)
        for _ in range(2):
            client.function_flush("SYNC")
            with pytest.raises(BrokerUnavailable, match=r"lacks the functions of this release .* coordinator"):
                Script(device, scripts.ARRIVED)(["chunk"], [60])
            assert stream_end(["log"], []) == b"0-0"
            assert Script(device, scripts.ARRIVED)(["chunk"], [60]) == [0, b""]


def test_two_releases_live_side_by_side(client: BrokerClient) -> None:
    """Another release's library is another one's, and neither takes the other's place."""
    other = scripts.LIBRARY.replace(scripts.VERSION, "0" * 8)
    client.function_load(other, replace=True)
    scripts.load(client)
    scripts.load(client)
    names = {dict(zip(row[::2], row[1::2], strict=True))[b"library_name"] for row in client.function_list()}
    assert names >= {b"fedtide_00000000", f"fedtide_{scripts.VERSION}".encode()}
    client.function_delete("fedtide_00000000")
