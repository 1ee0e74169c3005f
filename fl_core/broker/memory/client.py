"""A client of a twin: what redis-py's is of a server, so that nothing above it can tell them apart.

It stands where the connection would: redis-py makes the words of each command and reads the replies as ever. Bulk bytes
take their own way (``fl_core/broker/bulk/blobs.py``), to which the twin's socket speaks as a server does.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE, Pipeline

from fl_core.broker.line.short_way import BrokerClient, Word
from fl_core.broker.memory.commands import Commands
from fl_core.broker.memory.keyspace import START_MS, Keyspace, as_bytes
from fl_core.broker.memory.scripts import Scripts


class MemoryServer:
    """The twin itself: one database, used by any thread, one command at a time.

    Args:
        now_ms: what its clock shows at first.

    Attributes:
        keyspace: its keys, and its clock.
        commands: what runs on them.
    """

    def __init__(self, now_ms: float = START_MS) -> None:
        self.keyspace = Keyspace(now_ms)
        self.commands = Commands(self.keyspace)
        self._scripts = Scripts(self.keyspace, self.commands)
        self._turn = threading.RLock()

    def run(self, words: Sequence[Word]) -> Any:
        """Run one command and return the reply as RESP 2 has it.

        Raises:
            redis.ResponseError: the server would refuse it.
        """
        sent = [as_bytes(word) for word in words]
        with self._turn:
            if sent[0] in (b"FCALL", b"FCALL_RO"):
                return self._scripts.run(sent[1], sent[2:])
            return self.commands.run(sent)


class MemoryClient(BrokerClient):
    """A client of a twin. Any number of them may share one server.

    Args:
        server: the twin.
    """

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(protocol=2)
        self.server = server

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """redis-py's own way."""
        words = [*str(args[0]).split(), *args[1:]]
        try:
            reply = self.server.run(words)
        except redis.ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        for name in (NEVER_DECODE, EMPTY_RESPONSE, "keys"):
            options.pop(name, None)
        callback = dict.get(self.response_callbacks, args[0])
        return reply if callback is None else callback(reply, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Commands that are run together: in a twin each pipeline is a transaction."""
        return _MemoryPipeline(self)

    def quick(self, *words: Word) -> Any:
        """One command by the short way."""
        return self.server.run(words)

    def quick_both(self, first: Sequence[Word], second: Sequence[Word]) -> list[Any]:
        """Two commands, by the short way."""
        replies: list[Any] = []
        for words in (first, second):
            try:
                replies.append(self.server.run(words))
            except redis.ResponseError as error:
                replies.append(error)
        return replies

    def later(self, *words: Word) -> None:
        """A command whose reply nobody reads."""
        with contextlib.suppress(redis.ResponseError):
            self.server.run(words)

    @contextlib.contextmanager
    def in_hand(self) -> Iterator[Any]:
        """A connection, for bulk bytes."""
        yield _MemoryConnection(self.server)

    def close(self) -> None:
        """There is nothing to close."""


class _MemoryPipeline(Pipeline):
    def __init__(self, client: MemoryClient) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, True, None)
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        replies: list[Any] = []
        for words, options in stack:
            try:
                replies.append(self._client.execute_command(*words, **options))
            except redis.ResponseError as error:
                replies.append(error)
        if raise_on_error:
            self.raise_first_error(stack, replies)  # type: ignore[no-untyped-call]
        return replies


class _MemoryConnection:
    def __init__(self, server: MemoryServer) -> None:
        self._sock = _MemorySocket(server)

    def disconnect(self) -> None:
        """There is nothing to close."""


class _MemorySocket:
    """Takes commands as they travel, and has the replies ready at once."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._sent, self._replies = bytearray(), bytearray()

    def gettimeout(self) -> float | None:
        return None

    def pending(self) -> int:
        """How many bytes can be read."""
        return len(self._replies)

    def sendall(self, data: Any) -> None:
        self._sent += data
        while (words := self._take_command()) is not None:
            try:
                self._replies += _packed(self._server.run(words))
            except redis.ResponseError as error:
                self._replies += b"-%b\r\n" % str(error).encode()

    def send(self, data: Any) -> int:
        self.sendall(data)
        return len(data)

    def recv_into(self, view: memoryview) -> int:
        count = min(len(view), len(self._replies))
        view[:count] = self._replies[:count]
        del self._replies[:count]
        return count

    def _take_command(self) -> list[bytes] | None:
        """The next command, if all of it was sent."""
        at = self._sent.find(b"\r\n")
        if at < 0:
            return None
        words: list[bytes] = []
        count, at = int(self._sent[1:at]), at + 2
        while len(words) < count:
            end = self._sent.find(b"\r\n", at)
            if end < 0:
                return None
            size, at = int(self._sent[at + 1 : end]), end + 2
            if len(self._sent) < at + size + 2:
                return None
            words.append(bytes(self._sent[at : at + size]))
            at += size + 2
        del self._sent[:at]
        return words


def _packed(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if reply == b"OK":
        return b"+OK\r\n"
    return b"$%d\r\n%b\r\n" % (len(reply), reply)
