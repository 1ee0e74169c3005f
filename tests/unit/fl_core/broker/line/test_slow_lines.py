"""Timeouts are for silence: whoever moves a byte in the time is waited for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from fl_core.broker.line.reply_bound import ReplyTooLong, _Reader
from fl_core.broker.line.slow_lines import Outflow, Transfer, await_reply, is_readable, send_all


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends with small buffers; ours times out soon."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.settimeout(0.2)
    with ours, theirs:
        yield ours, theirs


def test_a_reader_that_reads_slowly_gets_all_of_it(line: tuple[socket.socket, socket.socket]) -> None:
    """Though it takes longer than the timeout; how far it is is said each time."""
    ours, theirs = line
    data, sent, got = bytes(range(256)) * 400, [], bytearray()

    def read() -> None:
        while len(got) < len(data):
            threading.Event().wait(0.01)
            got.extend(theirs.recv(4096))

    reader = threading.Thread(target=read)
    reader.start()
    send_all(ours, data, Outflow(ours), sent.append)
    reader.join(20)
    assert bytes(got) == data
    assert sent == sorted(sent)
    assert sent[-1] == len(data)


def test_a_reader_that_reads_nothing_is_given_up(line: tuple[socket.socket, socket.socket]) -> None:
    """After the timeout, as nothing leaves any more."""
    ours, _ = line
    with pytest.raises(TimeoutError):
        send_all(ours, bytes(10_000_000), Outflow(ours))


def test_a_reply_is_waited_for_as_long_as_the_timeout(line: tuple[socket.socket, socket.socket]) -> None:
    """And seen when it is there."""
    ours, theirs = line
    assert not is_readable(ours, 0)
    with pytest.raises(TimeoutError):
        await_reply(ours, Outflow(ours))
    theirs.sendall(b"+OK\r\n")
    await_reply(ours, Outflow(ours))
    assert is_readable(ours, 0)


def test_a_transfer_is_told_of_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each move is noted, which may end it, and a person hears of it every five seconds."""
    now, told, moved = 0.0, [], []
    monkeypatch.setattr("fl_core.broker.line.slow_lines.time.monotonic", lambda: now)
    transfer = Transfer(told.append, lambda: moved.append(now))
    for second in range(12):
        now = float(second)
        transfer.tell(100 * second)
    assert told == [500, 1000]
    assert len(moved) == 12


def test_a_reply_beyond_its_bound_is_given_up() -> None:
    """Before it is put together."""
    reader = _Reader()
    reader.limit = 10
    reader.feed(b"$5\r\nhe", 0, 6)
    with pytest.raises(ReplyTooLong, match="more than 10 bytes"):
        reader.feed(b"llo\r\n", 0, 5)
