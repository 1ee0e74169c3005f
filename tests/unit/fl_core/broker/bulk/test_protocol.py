"""Redis' replies from a socket that gives them in pieces."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import redis

from fl_core.broker.bulk.protocol import bulk_string, fill, read_exactly, read_line, read_number, verify_kind, verify_ok
from fl_core.broker.line.slow_lines import Transfer

Line = Callable[[bytes], socket.socket]


@pytest.fixture
def line() -> Iterator[Line]:
    """A socket on which these bytes arrive, and nothing after them."""
    made: list[socket.socket] = []

    def arriving(data: bytes) -> socket.socket:
        ours, theirs = socket.socketpair()
        made.append(ours)
        theirs.sendall(data)
        theirs.close()
        return ours

    yield arriving
    for each in made:
        each.close()


@pytest.mark.parametrize("expected", [b"", b"+OK", b"$100", b"$7"])
@pytest.mark.parametrize("said", [b"+OK", b"$100", b"$7", b"$-1", b":12", b"-ERR no"])
def test_a_line_is_read_whatever_was_expected(line: Line, said: bytes, expected: bytes) -> None:
    """And nothing of what follows, where it is as expected."""
    sock = line(said + b"\r\nrest")
    assert read_line(sock, expected) == said
    if said == expected or not expected:
        assert read_exactly(sock, 4) == b"rest"


def test_a_line_without_an_end_is_given_up(line: Line) -> None:
    """A proxy's page is not read to the end."""
    with pytest.raises(redis.InvalidResponse, match="begins with"):
        read_line(line(b"x" * 10_000), b"")


def test_a_connection_that_closes_is_told(line: Line) -> None:
    """In the middle of a value, with what has arrived counted."""
    transfer = Transfer()
    with pytest.raises(redis.ConnectionError, match="closed"):
        fill(line(b"half"), memoryview(bytearray(8)), transfer)
    assert transfer.done == 4


def test_replies_of_another_kind() -> None:
    """A refusal is the server's word; all else is no reply."""
    assert bulk_string(b"") == b"$0\r\n\r\n"
    assert read_number(b":12") == 12
    verify_ok(b"+OK")
    for read in (verify_ok, read_number):
        with pytest.raises(redis.ResponseError, match="OOM"):
            read(b"-OOM no memory")
        with pytest.raises(redis.InvalidResponse):
            read(b"HTTP/1.1 400")
    for other in (b"$-7", b"$x", b"+OK"):
        with pytest.raises(redis.InvalidResponse):
            verify_kind(other, b"$")
